"""Selectors: what stays does not depend on the order of the rows, and what leaves has a reason."""

from __future__ import annotations

import math
from collections import Counter
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

import llmctl.data.selectors
from llmctl.data.selectors.base import Selector, value_of
from llmctl.data.selectors.diversity import k_center, k_means
from llmctl.errors import InputError
from llmctl.plugins import kinds
from llmctl.records import Dropped

HASHING = {"kind": "hashing", "dimensions": 64}
KEYS: dict[str, dict[str, Any]] = {
    "quality": {"by": "judge:rubric", "share": 0.5},
    "diversity": {"count": 4, "embedder": HASHING},
    "complexity": {"low": 0.3},
    "quota": {"field": "meta.task", "most": 2},
}
WORDS = ["pump", "valve", "pipe", "boiler", "room", "water", "night", "winter"]


def row(number: int, score: float | None = None, task: str = "a", text: str = "") -> dict[str, Any]:
    words = text or " ".join(Random(number).choices(WORDS, k=3 + number % 7))
    return {
        "id": f"r{number}",
        "messages": [{"role": "user", "content": words}, {"role": "assistant", "content": words}],
        "source": {"uri": "x.md"},
        "meta": {"task": task, "judgements": [{"judge": "rubric", "score": score}]},
    }


def kept(selector: dict[str, Any], rows: list[dict[str, Any]], seed: int = 0) -> list[str]:
    found = Selector.of(selector).select(rows, seed)
    return [each["id"] for each in found if not isinstance(each, Dropped)]


def test_every_selector_is_tried_here() -> None:
    assert {*KEYS, "budget"} == set(kinds(llmctl.data.selectors))


@pytest.mark.parametrize("kind", KEYS)
@given(
    scores=st.lists(st.one_of(st.none(), st.floats(0, 5)), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=40)
def test_the_choice_does_not_depend_on_the_order(kind: str, scores: list[Any], order: Any) -> None:
    rows = [row(n, score, "abc"[n % 3]) for n, score in enumerate(scores)]
    if kind == "quality" and not any(score is not None for score in scores):
        return
    selector = {"kind": kind, **KEYS[kind]}
    found = list(Selector.of(selector).select(rows, 7))
    assert len(found) == len(rows)
    names = [each.id if isinstance(each, Dropped) else each["id"] for each in found]
    assert names == [each["id"] for each in rows]
    assert all(each.reason == kind and each.detail for each in found if isinstance(each, Dropped))
    shuffled = list(rows)
    order.shuffle(shuffled)
    assert set(kept(selector, shuffled, 7)) == set(kept(selector, rows, 7))


def test_quality_keeps_the_best_and_those_without_a_score_last() -> None:
    rows = [row(n, score) for n, score in enumerate([1.0, None, 5.0, 3.0])]
    assert kept({"kind": "quality", "by": "judge:rubric", "count": 2}, rows) == ["r2", "r3"]
    assert kept({"kind": "quality", "by": "judge:rubric", "count": 3}, rows) == ["r0", "r2", "r3"]
    assert kept({"kind": "quality", "by": "judge:rubric", "share": 0.3}, rows) == ["r2", "r3"]
    with pytest.raises(InputError, match="no row has a number in `judge:rubic`"):
        kept({"kind": "quality", "by": "judge:rubic", "count": 2}, rows)
    assert value_of({"meta": {"ok": True}}, "meta.ok") is None


def test_quota_by_shares_is_bounded_by_the_scarcest() -> None:
    rows = [row(n, n, task) for n, task in enumerate("aaaaaabbcd")]
    keys = {"kind": "quota", "field": "meta.task", "by": "judge:rubric"}
    found = kept({**keys, "shares": {"a": 0.5, "b": 0.5}}, rows)
    assert found == ["r4", "r5", "r6", "r7"]
    assert kept({**keys, "most": 1}, rows) == ["r5", "r7", "r8", "r9"]
    for wrong in ({"shares": {"a": 0.5}}, {"most": 1, "shares": {"a": 1.0}}):
        with pytest.raises(ValidationError, match="quota: "):
            Selector.of({**keys, **wrong})


@pytest.mark.model
def test_a_budget_is_kept_and_used(smollm: Any) -> None:
    rows = [row(n, n) for n in range(8)]
    keys = {"kind": "budget", "tokenizer": str(smollm), "tokens": 40, "by": "judge:rubric"}
    found = kept(keys, rows)
    from llmctl.data.selectors.budget import text_of
    from llmctl.rag.tokens import tokenizer_of

    tokenizer = tokenizer_of(str(smollm))
    sizes = {each["id"]: len(tokenizer.encode(text_of(each)).ids) for each in rows}
    total = sum(sizes[name] for name in found)
    assert total <= 40 < total + min(size for name, size in sizes.items() if name not in found)


@given(
    points=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=2, max_size=9),
    size=st.integers(1, 4),
)
@settings(max_examples=60)
def test_k_center_is_within_twice_the_best(points: list[tuple[float, float]], size: int) -> None:
    """Gonzalez's bound holds for the angle, which is a metric; 1 - cosine grows with it."""
    from itertools import combinations

    raw = np.array([p for p in points if math.hypot(*p) > 1e-3], dtype=np.float64)
    if len(raw) < size:
        return
    vectors = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    angles = np.arccos(np.clip(vectors @ vectors.T, -1, 1))
    chosen, nearest = k_center(vectors, size)
    assert nearest == pytest.approx((1 - vectors @ vectors[chosen].T).min(axis=1))
    radius = angles[:, chosen].min(axis=1).max()
    best = min(angles[:, list(c)].min(axis=1).max() for c in combinations(range(len(raw)), size))
    assert radius <= 2 * best + 2e-3  # arccos near 1 knows no more of its argument


def test_k_means_finds_blobs_that_lie_apart() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(3)
    vectors = np.concatenate([c + 0.05 * random.normal(size=(20, 3)) for c in centres])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = k_means(vectors, 3, 1)
    assert [len(set(labels[n : n + 20])) for n in (0, 20, 40)] == [1, 1, 1]
    assert len(set(labels)) == 3


@pytest.mark.parametrize("method", ["k_center", "clusters"])
def test_diversity_takes_no_two_of_a_kind_while_there_are_others(method: str) -> None:
    texts = ["water pump"] * 10 + ["night valve", "boiler room", "winter pipe"]
    rows = [row(n, text=text) for n, text in enumerate(texts)]
    keys = {"kind": "diversity", "method": method, "count": 4, "clusters": 4, "embedder": HASHING}
    chosen = kept(keys, rows)
    assert Counter(texts[int(name[1:])] for name in chosen) == Counter(set(texts))


def test_complexity_leaves_out_what_is_simple() -> None:
    rows = [row(0, text="yes " * 200), row(1, text=" ".join(f"word{n}" for n in range(99)))]
    assert kept({"kind": "complexity"}, rows) == ["r1"]
    assert kept({"kind": "complexity", "measure": "words"}, rows) == ["r0"]


def test_a_raw_text_is_measured_once() -> None:
    rows = [{"id": f"r{n}", "text": "word " * n, "source": {}, "meta": {}} for n in (3, 9)]
    selector = Selector.of({"kind": "complexity", "measure": "words"})
    assert next(selector.select(rows, 0)) == Dropped("r3", "complexity", "3 words")
