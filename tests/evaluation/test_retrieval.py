"""The retrieval task: metrics equal trec_eval's, a wrong name of documents is an error."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent.parent / "rag"))

from shelf import shelf

from llmctl.errors import InputError
from llmctl.evaluation import relevance, statistics
from llmctl.evaluation.tasks.base import Task
from llmctl.evaluation.tasks.retrieval import RetrievalTask, judgements
from llmctl.report.html import Report
from llmctl.schema.eval import EvalRecipe

RANKED = ["d1", "d9", "d3", "d7", "d2", "d8"]
JUDGED = {"d1": 0, "d2": 3, "d3": 1, "d4": 2, "d7": 2, "d5": 0}
# pytrec_eval-terrier 0.5.11: RelevanceEvaluator({"q": JUDGED}, {"ndcg_cut.5", "recall.5",
# "map_cut.5", "recip_rank"}).evaluate({"q": {d: 10 - i for i, d in enumerate(RANKED)}})
TREC = {"ndcg": 0.4430207, "recall": 0.75, "map": 0.3583333, "mrr": 0.3333333}


def test_the_metrics_are_those_of_trec_eval() -> None:
    assert relevance.ndcg(RANKED, JUDGED, 5, linear=True) == pytest.approx(TREC["ndcg"], abs=1e-6)
    assert relevance.recall(RANKED, JUDGED, 5) == pytest.approx(TREC["recall"], abs=1e-6)
    assert relevance.average_precision(RANKED, JUDGED, 5) == pytest.approx(TREC["map"], abs=1e-6)
    assert relevance.reciprocal_rank(RANKED, JUDGED, 5) == pytest.approx(TREC["mrr"], abs=1e-6)
    assert relevance.precision(RANKED, JUDGED, 5) == 3 / 5


def test_the_gain_of_ndcg_by_hand() -> None:
    """Grades 1, 2, 3 at ranks 3, 4, 5 of the list; the best order is 3, 2, 2, 1."""
    from math import log2

    found = 1 / log2(4) + 3 / log2(5) + 7 / log2(6)
    best = 7 / log2(2) + 3 / log2(3) + 3 / log2(4) + 1 / log2(5)
    assert relevance.ndcg(RANKED, JUDGED, 5) == pytest.approx(found / best)


@given(
    ranked=st.permutations([f"d{n}" for n in range(8)]),
    judged=st.dictionaries(st.sampled_from([f"d{n}" for n in range(10)]), st.integers(-1, 3)),
    k=st.integers(1, 10),
)
def test_every_metric_lies_between_0_and_1_and_the_best_order_gives_1(
    ranked: list[str], judged: dict[str, int], k: int
) -> None:
    for metric in (relevance.ndcg, relevance.recall, relevance.precision,
                   relevance.reciprocal_rank, relevance.average_precision):  # fmt: skip
        assert 0 <= metric(ranked, judged, k) <= 1 + 1e-9
    best = sorted(judged, key=lambda key: -judged[key])
    if any(grade > 0 for grade in judged.values()):
        assert relevance.ndcg(best, judged, k) == pytest.approx(1)
        assert relevance.average_precision(best, judged, len(judged)) == pytest.approx(1)


def test_the_bootstrap_interval_holds_the_mean_and_is_the_same_again() -> None:
    values = [0.0, 0.5, 1.0, 0.25, 0.75] * 20
    low, high = statistics.bootstrap(values, 0.95)
    assert low < 0.5 < high and (low, high) == statistics.bootstrap(values, 0.95)
    se = statistics.estimate(values).se
    assert (high - low) / 2 == pytest.approx(1.96 * se, rel=0.1)
    assert statistics.bootstrap([0.3], 0.95) == (0.3, 0.3)


@pytest.fixture
def judged(tmp_path: Path) -> Path:
    folder = tmp_path / "judged"
    folder.mkdir()
    queries = [
        {"_id": "q1", "text": "when is the filter of the pump cleaned"},
        {"_id": "q2", "text": "roses cut in March"},
        {"_id": "q3", "text": "nobody judged this"},
    ]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in queries))
    (folder / "qrels.tsv").write_text(
        "query-id\tcorpus-id\tscore\nq1\tpump\t2\nq1\toven\t1\nq2\tgarden\t1\nq3\ttax\t0\n"
    )
    return folder


def task(judged: Path, **keys: Any) -> RetrievalTask:
    found: Any = Task.of({"kind": "retrieval", "store": "s", "data": judged, "document": "name",
                          "at": [1, 3], "retrieve": {"smoothing": 0}, **keys})  # fmt: skip
    return found


def test_queries_are_scored_by_document(judged: Path, tmp_path: Path) -> None:
    found = task(judged)
    items = found.items(tmp_path, None, 0)
    assert [item.id for item in items] == ["q1", "q2"]
    one, two = found.measured(shelf(tmp_path / "shelf"), items)
    assert one.shown["found"][0] == "pump" and len(set(one.shown["found"])) == 3
    assert one.values["ndcg@1"] == 1 and one.values["recall@1"] == 0.5
    assert two.values["mrr@3"] == two.values["map@3"] == two.values["recall@3"] == 1
    assert set(one.values) == {f"{m}@{k}" for m in ("ndcg", "recall", "mrr", "map") for k in (1, 3)}


def test_a_sweep_measures_other_ways_and_draws_them(judged: Path, tmp_path: Path) -> None:
    found = task(judged, sweep={"modes": ["bm25", "rrf"], "alphas": [0.0, 1.0]})
    scored = list(found.measured(shelf(tmp_path / "shelf"), found.items(tmp_path, None, 0)))
    for each in scored:
        assert each.values["ndcg@3 bm25"] == each.values["ndcg@3 hybrid 0 %"]
    report = Report("r")
    found.report(report, scored, 0.9)
    report.write(tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text()
    assert "ndcg@1 by alpha" in page and "<svg" in page and "map@3 hybrid 100 %" in page


def test_documents_under_another_name_are_an_error(judged: Path, tmp_path: Path) -> None:
    found = task(judged, document="uri")
    with pytest.raises(InputError, match=r"named like 'garden', by `document: uri` it has"):
        list(found.measured(shelf(tmp_path / "shelf"), found.items(tmp_path, None, 0)))


def test_mistakes_in_the_files_are_named(judged: Path, tmp_path: Path) -> None:
    (judged / "qrels.tsv").write_text("q1\tpump\t1\nq2 garden 1\n")
    with pytest.raises(InputError, match=r"qrels\.tsv:2: a judgement is"):
        judgements(judged)
    (judged / "qrels.tsv").unlink()
    with pytest.raises(InputError, match="has no qrels"):
        judgements(judged)


def test_only_retrieval_needs_no_model(judged: Path) -> None:
    base = {"stage": "eval", "out": "o"}
    part = {"kind": "retrieval", "store": "s", "data": str(judged)}
    recipe = EvalRecipe.model_validate({**base, "tasks": [part]})
    assert recipe.inputs() == {"tasks.0.store": Path("s"), "tasks.0.data": judged}
    with pytest.raises(ValueError, match="the task 'loss' measures one"):
        EvalRecipe.model_validate({**base, "tasks": [part, {"kind": "loss", "data": "d"}]})
    with pytest.raises(ValueError, match="give one"):
        EvalRecipe.model_validate({**base, "baseline": "b", "tasks": [part]})
    with pytest.raises(ValueError, match="between 1 and the 100"):
        EvalRecipe.model_validate({**base, "tasks": [{**part, "at": [200]}]})


@pytest.mark.model
def test_the_stage_runs_without_a_model(llmctl: Any, corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "ingest.yaml").write_text(f"stage: ingest\nsource: {corpus}\nout: {tmp_path}/s\n")
    assert llmctl("ingest", tmp_path / "ingest.yaml", "-q").returncode == 0
    folder = tmp_path / "j"
    folder.mkdir()
    (folder / "queries.jsonl").write_text('{"_id": "1", "text": "how long is the warranty"}\n')
    (folder / "qrels.tsv").write_text("1\twarranty\t1\n")
    (tmp_path / "eval.yaml").write_text(
        f"stage: eval\nout: {tmp_path}/e\ngate: [{{metric: search.mrr@10, min: 0.5}}]\n"
        f"tasks: [{{kind: retrieval, name: search, store: {tmp_path}/s, data: {folder}, "
        "document: name, sweep: {}}]\n"
    )
    done = llmctl("eval", tmp_path / "eval.yaml", "-q")
    assert done.returncode in (0, 5), done.stderr  # one query has no interval
    results = json.loads((tmp_path / "e" / "results.json").read_text())
    assert results["tasks"]["search"]["metrics"]["mrr@10"]["model"]["value"] == 1
    assert "ndcg@10 by alpha" in (tmp_path / "e" / "report.html").read_text()
