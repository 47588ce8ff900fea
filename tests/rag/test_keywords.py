"""The keyword index: equal to the formula, to bm25s, and to itself after an update."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.errors import InputError
from llmctl.rag import keywords
from llmctl.rag.terms import Terms, words
from llmctl.schema.keywords import Keywords

PLAIN = Keywords(stemmer="none", stop_words=())
WORDS = st.sampled_from(["red", "blue", "wing", "flow", "läuft", "流れ", "x1", ""])
TEXTS = st.lists(st.lists(WORDS, max_size=8).map(" ".join), max_size=12)


def formula(texts: list[str], query: str, k1: float = 1.5, b: float = 0.75) -> list[float]:
    """BM25 as the module's docstring states it, written without an index."""
    rows = [Counter(words(text)) for text in texts]
    average = sum(sum(row.values()) for row in rows) / max(1, len(rows)) or 1
    found = []
    for row in rows:
        score = 0.0
        for term, weight in Counter(words(query)).items():
            n = sum(term in other for other in rows)
            idf = math.log(1 + (len(rows) - n + 0.5) / (n + 0.5))
            length = sum(row.values())
            score += weight * idf * row[term] / (
                row[term] + k1 * (1 - b + b * length / average) or 1
            )  # fmt: skip
        found.append(score)
    return found


@given(texts=TEXTS, query=st.lists(WORDS, min_size=1, max_size=4).map(" ".join))
@settings(max_examples=60)
def test_scores_are_the_formula(texts: list[str], query: str) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder)
        keywords.build(path, ((str(i), text) for i, text in enumerate(texts)), PLAIN)
        index = keywords.open(path)
        wanted = formula(texts, query)
        assert index.scores(query).tolist() == pytest.approx(wanted, abs=1e-5)
        near = index.top(query, 3)
        assert [each.score for each in near] == sorted((n.score for n in near), reverse=True)
        assert len(near) == min(3, sum(score > 0 for score in wanted))
        for each in near:
            assert sum(index.parts(query, int(each.id)).values()) == pytest.approx(
                each.score, abs=1e-5
            )


@given(texts=TEXTS, more=TEXTS, gone=st.sets(st.integers(0, 11)))
@settings(max_examples=40)
def test_an_update_is_a_new_index(texts: list[str], more: list[str], gone: set[int]) -> None:
    old = {str(i): text for i, text in enumerate(texts)}
    new = {str(i + 6): text for i, text in enumerate(more)}  # some ids are there already
    with TemporaryDirectory() as folder:
        path = Path(folder)
        keywords.build(path / "old", old.items(), PLAIN)
        removed = {str(i) for i in gone}
        keywords.update(path / "new", path / "old", removed, new.items)
        whole = {k: t for k, t in old.items() if k not in removed and k not in new} | new
        keywords.build(path / "whole", whole.items(), PLAIN)
        updated, fresh = keywords.open(path / "new"), keywords.open(path / "whole")
        for query in ("red wing", "blue", "流れ läuft flow"):
            assert updated.top(query, 50) == fresh.top(query, 50)


def test_a_killed_build_leaves_no_index(tmp_path: Path) -> None:
    def rows():
        yield "1", "one"
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        keywords.build(tmp_path, rows())
    with pytest.raises(InputError, match="llmctl ingest"):
        keywords.open(tmp_path)


def test_memory_hardly_grows_with_the_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keywords, "BLOCK", 1024)

    def peak(count: int) -> int:
        rows = ((f"id-{i:028}", f"w{i % 701} w{i % 307} common text") for i in range(count))
        tracemalloc.start()
        keywords.build(tmp_path / str(count), rows, PLAIN)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)  # what is imported and remembered once
    assert peak(12_000) - peak(2_000) < 10_000 * 40  # an id alone would be 81 bytes


def test_only_allowed_rows_are_found(tmp_path: Path) -> None:
    keywords.build(tmp_path, [(str(i), f"wing number {i}") for i in range(20)])
    index = keywords.open(tmp_path)
    assert {each.id for each in index.top("wings", 5, {"3", "7", "absent"})} == {"3", "7"}
    assert index.top("wings", 5, ()) == []
    assert index.top("nothing of it", 5) == []


def test_blocks_do_not_change_the_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [(str(i), f"w{i % 7} w{i % 3} common text {i}") for i in range(200)]
    keywords.build(tmp_path / "one", rows)
    monkeypatch.setattr(keywords, "BLOCK", 37)
    keywords.build(tmp_path / "many", rows)
    names = sorted(file.name for file in (tmp_path / "one").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "many").iterdir())
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "many" / name).read_bytes()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("Boundary-layer FLOW's x_1, don't!", ["boundary", "layer", "flow", "x", "1", "don"]),
        ("Café ﬁne Straße", ["cafe", "fine", "strasse"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("東京大学 GPU", ["東京", "京大", "大学", "gpu"]),
        ("", []),
    ],
)
def test_words_of_many_scripts(text: str, found: list[str]) -> None:
    assert list(words(text)) == found


def test_stems_and_stop_words() -> None:
    assert Terms("english", frozenset(["the"]))("The filters are filtering") == [
        "filter",
        "are",
        "filter",
    ]
    assert Terms()("The filters") == ["the", "filters"]


def test_equal_to_bm25s(tmp_path: Path) -> None:
    """bm25s 0.3.16, method lucene, on the terms that this index counts."""
    bm25s = pytest.importorskip("bm25s")
    docs = sorted((Path(__file__).parents[2] / "docs").glob("*.md"))
    texts = [part for doc in docs for part in doc.read_text(encoding="utf-8").split("\n\n")]
    terms = Terms("english")
    peer = bm25s.BM25(method="lucene", k1=1.5, b=0.75)
    peer.index([terms(text) for text in texts], show_progress=False)
    keywords.build(tmp_path, ((str(i), t) for i, t in enumerate(texts)), Keywords(stop_words=()))
    index = keywords.open(tmp_path)
    for query in ("how is a store made", "exit codes of the gate", "quantize model memory"):
        wanted = peer.get_scores(terms(query))
        assert index.scores(query).tolist() == pytest.approx(wanted.tolist(), abs=1e-4)
