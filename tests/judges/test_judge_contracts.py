"""The room's promise, tried on every judge: one word for each item, in order, as it is read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stub import QUESTION

import llmctl.judges
from llmctl.judges.base import Answered, Contest, Judge
from llmctl.plugins import kinds

MATCH = {"kind": "match", "rule": "f1"}
READY: dict[str, dict[str, Any]] = {
    "rubric": {"engine": "echo"},
    "pairwise": {"engine": "echo"},
    "jury": {"judges": [MATCH, {"kind": "rule", "filter": "refusal"}]},
    "match": {"rule": "f1"},
    "rule": {"filter": "repetition"},
}
WITH_MODEL = {"reward", "classifier"}
"""These load weights: test_judges.py and tests/training/test_classifier.py hold them to it."""
TEXTS = st.lists(st.text(max_size=40), max_size=9)


def test_every_judge_is_held_to_its_promise() -> None:
    assert {*READY, *WITH_MODEL} == set(kinds(llmctl.judges))


@pytest.mark.parametrize("kind", READY)
@given(texts=TEXTS)
@settings(max_examples=30)
def test_every_answer_gets_one_word_in_order(kind: str, texts: list[str]) -> None:
    judge = Judge.of({"kind": kind, **READY[kind]})
    items = [
        Answered(str(n), QUESTION, text, None if n % 3 == 2 else "yes")
        for n, text in enumerate(texts)
    ]
    low, high = judge.scale or (float("-inf"), float("inf"))
    with judge.open() as live:
        together = list(live.score(iter(items)))
        alone = [next(live.score([item])) for item in items]
    assert together == alone and len(together) == len(items)
    for each in together:
        assert (each.score is None and each.reason) or low <= (each.score or 0) <= high


@pytest.mark.parametrize("kind", READY)
@given(pairs=st.lists(st.tuples(st.text(max_size=20), st.text(max_size=20)), max_size=6))
@settings(max_examples=30)
def test_a_swap_of_the_answers_swaps_the_winner(kind: str, pairs: list[tuple[str, str]]) -> None:
    contests = [Contest(str(n), QUESTION, a, b, "yes") for n, (a, b) in enumerate(pairs)]
    with Judge.of({"kind": kind, **READY[kind]}).open() as live:
        straight = list(live.compare(contests))
        swapped = list(live.compare(each.swapped() for each in contests))
    assert len(straight) == len(contests)
    for one, other in zip(straight, swapped, strict=True):
        if one.points is None:
            assert other.points is None and one.reason
        else:
            assert one.points + (other.points or 0) == 1


@pytest.mark.parametrize("kind", [kind for kind in READY if kind != "jury"])
def test_items_are_taken_as_they_are_needed(kind: str) -> None:
    """A judge of a hundred thousand rows does not hold them all before the first word."""
    taken: list[int] = []

    def endless() -> Iterator[Answered]:
        while True:
            taken.append(1)
            yield Answered("x", QUESTION, "an answer", "yes")

    with Judge.of({"kind": kind, **READY[kind]}).open() as live:
        words = live.score(endless())
        assert next(words) is not None
        assert len(taken) < 1000


def test_replies_are_kept_in_the_cache(tmp_path: Path) -> None:
    judge = Judge.of({"kind": "rubric", "engine": "echo"})
    for cached in (0, 3):
        with judge.open(tmp_path / "replies.sqlite") as live:
            list(live.score([Answered(str(n), QUESTION, f"{n}") for n in range(3)]))
            assert live.usage["cached_calls"] == cached
