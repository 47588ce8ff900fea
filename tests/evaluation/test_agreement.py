"""Agreement of raters against published and hand-made tables."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.evaluation.agreement import (
    cohen_kappa,
    correlation,
    fleiss_kappa,
    krippendorff_alpha,
)

TABLE = [
    (0, 0, 0, 0, 14), (0, 2, 6, 4, 2), (0, 0, 3, 5, 6), (0, 3, 9, 2, 0), (2, 2, 8, 1, 1),
    (7, 7, 0, 0, 0), (3, 2, 6, 3, 0), (2, 5, 3, 2, 2), (6, 5, 2, 1, 0), (0, 2, 2, 3, 7),
]  # fmt: skip
"""Ten subjects, 14 raters, five categories: the worked example of the article "Fleiss' kappa" in
Wikipedia, whose result is 0.210."""
RATINGS = st.lists(st.lists(st.sampled_from("abc"), min_size=3, max_size=3), min_size=2)


def test_fleiss_is_that_of_the_worked_example() -> None:
    ratings = [[c for c, count in enumerate(row) for _ in range(count)] for row in TABLE]
    assert fleiss_kappa(ratings) == pytest.approx(0.210, abs=5e-4)


def test_fleiss_by_hand() -> None:
    # P = (1 + 1/3) / 2 = 2/3; p = 2/3, 1/3, so chance is 5/9; (2/3 - 5/9) / (4/9) = 1/4
    assert fleiss_kappa(["aaa", "abb"]) == pytest.approx(0.25)
    assert math.isnan(fleiss_kappa(["aa", "aa"])) and math.isnan(fleiss_kappa([]))
    with pytest.raises(ValueError, match="same number"):
        fleiss_kappa(["aa", "aaa"])


def test_cohen_by_hand() -> None:
    # 20 yes/yes, 5 yes/no, 10 no/yes, 15 no/no: p_o = 0.7, p_e = 0.5 * 0.6 + 0.5 * 0.4 = 0.5
    one = "y" * 25 + "n" * 25
    other = "y" * 20 + "n" * 5 + "y" * 10 + "n" * 15
    assert cohen_kappa(one, other) == pytest.approx(0.4)
    assert math.isnan(cohen_kappa("aa", "aa"))


@given(RATINGS)
def test_kappas_do_not_depend_on_order_and_are_at_most_one(ratings: list[list[str]]) -> None:
    kappa = fleiss_kappa(ratings)
    if not math.isnan(kappa):
        assert kappa <= 1 + 1e-12
        again = [list(reversed(each)) for each in reversed(ratings)]
        assert fleiss_kappa(again) == pytest.approx(kappa)


def test_cohen_is_that_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    one, other = "abcabcaabb", "abcbbcaacb"
    expected = metrics.cohen_kappa_score(list(one), list(other))
    assert cohen_kappa(one, other) == pytest.approx(expected)


def test_correlation_of_what_does_not_vary_is_unknown() -> None:
    assert correlation([1, 2, 3], [10, 20, 25]) == pytest.approx(1)
    assert math.isnan(correlation([1, 1, 1], [1, 2, 3]))


def test_alpha_is_that_of_the_worked_example() -> None:
    # the table of the article "Krippendorff's alpha" in Wikipedia, whose nominal alpha is 0.691
    coders = ("     34121133 3", "1 213343       ", "  21344 21133 4")
    units = [[c for c in unit if c != " "] for unit in zip(*coders, strict=True)]
    assert krippendorff_alpha(units) == pytest.approx(0.691, abs=5e-4)
    assert math.isnan(krippendorff_alpha(["a", "b"])) and math.isnan(krippendorff_alpha(["aa"]))


@given(RATINGS)
def test_alpha_is_fleiss_kappa_but_for_the_size_of_the_sample(ratings: list[list[str]]) -> None:
    count = 3 * len(ratings)
    kappa = fleiss_kappa(ratings)
    expected = 1 - (1 - kappa) * (count - 1) / count
    assert krippendorff_alpha(ratings) == pytest.approx(expected, nan_ok=True)
