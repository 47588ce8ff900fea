"""The numbers of eval against scipy's, and how often its intervals hold the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from llmctl.evaluation import statistics
from llmctl.evaluation.gates import Measured, decide
from llmctl.evaluation.tasks.perplexity import blocks, windows
from llmctl.schema.eval import Rule

CHANCE = np.random.default_rng(3)


def test_a_mean_is_that_of_scipy() -> None:
    values = CHANCE.normal(3, 2, 40).tolist()
    found = statistics.estimate(values)
    low, high = stats.t.interval(0.95, 39, np.mean(values), stats.sem(values))
    assert (found.value, found.se) == pytest.approx((np.mean(values), stats.sem(values)))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_a_share_has_wilsons_interval() -> None:
    found = statistics.estimate([1.0] * 7 + [0.0] * 13, confidence=0.9)
    for n in range(1, 40):  # what rounding leaves is not shown: 0 of 6 had 2.8e-17
        low, high = statistics.wilson(0, n, 0.95)[0], statistics.wilson(n, n, 0.95)[1]
        assert (low, high) == (0.0, 1.0)
    expected = stats.binomtest(7, 20).proportion_ci(0.9, method="wilson")
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    assert statistics.estimate([0.0] * 16).high > 0.15, "nothing right is not surely nothing"


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=60),
    st.sampled_from([(0.0, 1.0), (1.0, 5.0)]),
    st.booleans(),
)
def test_an_interval_stays_where_the_values_are(
    shares: list[float], bounds: tuple[float, float], clustered: bool
) -> None:
    low, high = bounds
    values = [min(low + (high - low) * each, high) for each in shares]
    names = [str(i // 2) for i in range(len(values))] if clustered else None
    found = statistics.estimate(values, None, names, bounds=bounds)
    assert low - 1e-9 <= found.low <= found.value + 1e-9
    assert found.value - 1e-9 <= found.high <= high + 1e-9
    change = statistics.difference(values, values[::-1], bounds=bounds)
    assert low - high <= change.low <= change.high <= high - low


def test_small_probabilities_have_a_fair_interval() -> None:
    """Student's began below 0 in most of these trials and held the truth in 77 of 100."""
    hits, trials = 0, 600
    for _ in range(trials):
        found = statistics.estimate(CHANCE.beta(0.2, 10, 8).tolist(), bounds=(0, 1))
        hits += 0 <= found.low <= 0.2 / 10.2 <= found.high
    assert hits / trials > 0.82
    shares = CHANCE.beta(5, 5, 400).tolist()
    plain, bounded = statistics.estimate(shares), statistics.estimate(shares, bounds=(0, 1))
    assert (bounded.low, bounded.high) == pytest.approx((plain.low, plain.high), abs=2e-4)


def test_the_share_of_clustered_answers_stays_a_share() -> None:
    """Thirty documents, in one of which the model knows something."""
    values = [1.0] * 3 + [0.0] * 87
    found = statistics.estimate(values, None, [str(i // 3) for i in range(90)], bounds=(0, 1))
    assert found.clusters == 30 and 0 < found.low < found.value < found.high
    none = statistics.estimate([0.0] * 90, None, [str(i // 3) for i in range(90)], bounds=(0, 1))
    assert none.low == 0 and 0.05 < none.high < 0.2


def test_a_difference_is_paired() -> None:
    a = CHANCE.normal(0, 5, 60)
    b = a + CHANCE.normal(0.2, 0.5, 60)
    found = statistics.difference(a.tolist(), b.tolist())
    expected = stats.ttest_rel(b, a)
    assert found.p == pytest.approx(expected.pvalue)
    interval = expected.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))
    assert found.se < stats.sem(a) / 3


def test_right_and_wrong_are_compared_by_mcnemar() -> None:
    a = [1.0] * 10 + [0.0] * 20
    b = [1.0] * 8 + [0.0] * 2 + [1.0] * 9 + [0.0] * 11
    found = statistics.difference(a, b)
    assert (found.gained, found.lost) == (9, 2)
    assert found.p == pytest.approx(stats.binomtest(9, 11).pvalue)


def test_weights_make_a_ratio_of_sums() -> None:
    totals, tokens = CHANCE.gamma(2, 10, 50), CHANCE.integers(5, 50, 50).astype(float)
    found = statistics.estimate((totals / tokens).tolist(), tokens.tolist())
    assert found.value == pytest.approx(totals.sum() / tokens.sum())
    picks = CHANCE.integers(0, 50, (20_000, 50))
    bootstrap = totals[picks].sum(1) / tokens[picks].sum(1)
    assert found.se == pytest.approx(bootstrap.std(), rel=0.1)


def test_clustered_items_count_once_there_are_enough_clusters() -> None:
    shift = np.repeat(CHANCE.normal(0, 1, 30), 10)
    values = (shift + CHANCE.normal(0, 0.1, 300)).tolist()
    names = [str(i // 10) for i in range(300)]
    clustered = statistics.estimate(values, clusters=names)
    assert clustered.clusters == 30
    means = np.array(values).reshape(30, 10).mean(1)
    assert clustered.se == pytest.approx(stats.sem(means))
    few = statistics.estimate(values[:50], clusters=names[:50])
    assert few.clusters is None, "five clusters give no error that could be trusted"


@pytest.mark.parametrize("clustered", [False, True])
def test_an_interval_holds_the_truth_as_often_as_it_says(clustered: bool) -> None:
    hits, trials = 0, 600
    names = [str(i // 4) for i in range(160)] if clustered else None
    for _ in range(trials):
        shift = np.repeat(CHANCE.normal(0, 1, 40), 4) if clustered else 0
        values = CHANCE.normal(1.5, 1, 160) + shift
        found = statistics.estimate(values.tolist(), clusters=names)
        hits += found.low <= 1.5 <= found.high
    assert 0.92 <= hits / trials <= 0.98


def test_one_item_has_no_error() -> None:
    found = statistics.estimate([2.0])
    assert math.isnan(found.se) and found.low == -math.inf
    assert str(found) == "2 (n=1)"
    with pytest.raises(ValueError, match="no values"):
        statistics.estimate([])


def measured(model: list[float], baseline: list[float], *, lower: bool) -> dict[str, Measured]:
    return {
        "t.m": Measured(
            "t.m",
            statistics.estimate(model),
            lower,
            statistics.estimate(baseline),
            statistics.difference(baseline, model),
        )
    }


@pytest.mark.parametrize(
    ("change", "noise", "rule", "verdict"),
    [
        (-0.5, 0.1, {"better": True}, "passed"),
        (0.5, 0.1, {"better": True}, "failed"),
        (-0.01, 0.5, {"better": True}, "inconclusive"),
        (0.0, 0.0, {"better": True}, "failed"),
        (0.05, 0.01, {"max_drop": 0.2}, "passed"),
        (0.5, 0.01, {"max_drop": 0.2}, "failed"),
        (0.2, 0.5, {"max_drop": 0.2}, "inconclusive"),
        (0.0, 0.0, {"max": 100.0}, "passed"),
        (0.0, 0.0, {"max": -100.0}, "failed"),
        (0.0, 0.0, {"min": 100.0}, "failed"),
    ],
)
def test_a_rule_has_three_outcomes(
    change: float, noise: float, rule: dict[str, float], verdict: str
) -> None:
    base = np.linspace(0, 1, 30)
    signs = np.where(np.arange(30) % 2, 1, -1)
    model = base + change + noise * signs
    found = measured(model.tolist(), base.tolist(), lower=True)
    [decision] = decide(Rule(metric="t.m", **rule), found, 0.95)  # type: ignore[arg-type]
    assert decision.verdict == verdict, decision.detail


def test_an_open_rule_says_how_many_items_would_tell() -> None:
    base = np.zeros(30)
    model = 0.05 + np.where(np.arange(30) % 2, 0.5, -0.5)
    [decision] = decide(
        Rule(metric="t.m", better=True), measured(model.tolist(), base.tolist(), lower=False), 0.95
    )
    needed = int(decision.detail.split("about ")[1].split()[0])
    power = stats.norm.isf(0.025) + stats.norm.isf(0.2)
    assert needed == math.ceil(30 * (power * stats.sem(model) / 0.05) ** 2)


@given(st.integers(2, 300), st.integers(1, 64), st.integers(1, 64))
def test_every_token_but_the_first_is_scored_once_with_enough_context(
    length: int, stride: int, more: int
) -> None:
    window = stride + more
    ids = list(range(length))
    seen = []
    for part, target in windows(ids, window, stride):
        assert len(part) <= window
        for position, (token, counts) in enumerate(zip(part, target, strict=True)):
            if counts and token:
                seen.append(token)
                assert position >= min(token, window - stride)
    assert sorted(seen) == ids[1:]


@given(st.text(alphabet="ab \n", min_size=1), st.integers(1, 40))
def test_blocks_are_the_text(text: str, most: int) -> None:
    assert "".join(blocks(text, most)).strip() == text.strip()
