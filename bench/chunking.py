"""What chunkers and headers do to retrieval, on one judged collection bound into long documents.

    python bench/chunking.py DATA/cranfield [--queries N] [--only NAME ...]

Ten abstracts make one Markdown document, each under a heading with its title, in a shuffled order
(seed 0). A chunk stands for the abstract that it shares most characters with, and an abstract ranks
where its best chunk does. Judgements are used for measuring only; with
`--queries` the first N are asked, of the abstracts that are judged for them.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from llmctl.evaluation.relevance import ndcg
from llmctl.rag import keywords
from llmctl.rag.cutting import cut, embedded_text
from llmctl.records import Document
from llmctl.schema.ingest import IngestRecipe

BOUND = 10
WAYS: dict[str, dict[str, Any]] = {
    "sentence 800": {"chunker": {"kind": "sentence", "max_chars": 800}},
    "sentence 300": {"chunker": {"kind": "sentence", "max_chars": 300}},
    "sentence 300, header path": {
        "chunker": {"kind": "sentence", "max_chars": 300}, "header": "path",
    },
    "markdown 1200": {"chunker": {"kind": "markdown", "max_chars": 1200}},
    "markdown 500": {"chunker": {"kind": "markdown", "max_chars": 500}},
    "markdown 500, header path": {
        "chunker": {"kind": "markdown", "max_chars": 500}, "header": "path",
    },
    "recursive 800": {"chunker": {"kind": "recursive", "size": 800}},
    "recursive 200 tokens": {"chunker": {"kind": "recursive", "size": 200, "unit": "tokens"}},
    "recursive 254 tokens": {"chunker": {"kind": "recursive", "size": 254, "unit": "tokens"}},
    "window 800, overlap 100": {"chunker": {"kind": "window", "size": 800, "overlap": 100}},
    "semantic": {"chunker": "semantic"},
    "small_to_big 300 in sections": {
        "chunker": {"kind": "small_to_big", "small": {"kind": "sentence", "max_chars": 300},
                    "big": {"kind": "markdown", "max_chars": 4000}},
    },
}  # fmt: skip


def read(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a packed JSONL file."""
    with gzip.open(folder / f"{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def bound(corpus: list[dict[str, Any]]) -> list[tuple[Document, list[tuple[int, str]]]]:
    """(document, where each abstract ends and its id)."""
    random.Random(0).shuffle(corpus)
    found = []
    for number in range(0, len(corpus), BOUND):
        text, ends = "", []
        for row in corpus[number : number + BOUND]:
            text += f"## {row['title'].strip() or 'untitled'}\n\n{row['text'].strip()}\n\n"
            ends.append((len(text), row["_id"]))
        title = f"Volume {number // BOUND + 1}"
        document: Document = {
            "id": title, "uri": f"{title}.md", "title": title, "text": text, "source": {},
            "meta": {"headed": True, "paged": False},
        }  # fmt: skip
        found.append((document, ends))
    return found


def owner(ends: list[tuple[int, str]], start: int, end: int) -> str:
    """The abstract that shares most characters with a span."""
    begins = [0, *(place for place, _ in ends)]
    shared = [min(end, stop) - max(start, b) for b, (stop, _) in zip(begins, ends, strict=False)]
    return ends[int(np.argmax(shared))][1]


def main() -> None:
    """Print one row of the table for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", nargs="*", default=list(WAYS))
    parser.add_argument("--queries", type=int)
    options = parser.parse_args()
    queries = read(options.data, "queries")
    judged: dict[str, dict[str, int]] = {}
    for line in (options.data / "qrels.tsv").read_text().splitlines()[1:]:
        query, document, grade = line.split("\t")
        judged.setdefault(query, {})[document] = int(grade)
    queries = [row for row in queries if row["_id"] in judged][: options.queries]
    corpus = read(options.data, "corpus")
    if options.queries is not None:
        wanted = {key for row in queries for key in judged[row["_id"]]}
        corpus = [row for row in corpus if row["_id"] in wanted]
    documents = bound(corpus)
    base = IngestRecipe.model_validate({"stage": "ingest", "out": "o", "source": "s"})
    with base.embedder.open() as live:
        asked = np.stack([live.query(row["text"]) for row in queries])
        print(
            "| chunker | chunks | mean chars | seconds | dense nDCG@10 | BM25 nDCG@10 |", flush=True
        )
        print("|---|---:|---:|---:|---:|---:|", flush=True)
        for name in options.only:
            keys = {"stage": "ingest", "out": "o", "source": "s", **WAYS[name]}
            print(measured(name, IngestRecipe.model_validate(keys), live, documents, queries,
                           asked, judged), flush=True)  # fmt: skip


def measured(
    name: str,
    recipe: IngestRecipe,
    live: Any,
    documents: Any,
    queries: Any,
    asked: Any,
    judged: Any,
) -> str:
    """A row of the table."""
    began = time.perf_counter()
    chunks, owners = [], []
    for document, ends in documents:
        for chunk in cut(recipe, document, live.texts).chunks:
            chunks.append(chunk)
            owners.append(owner(ends, chunk["start"], chunk["end"]))
    texts = [embedded_text(chunk, recipe) for chunk in chunks]
    vectors = live.texts(texts)
    taken = time.perf_counter() - began
    places = np.array(sorted(set(owners)))
    column = np.searchsorted(places, owners)
    with tempfile.TemporaryDirectory() as folder:
        keywords.build(Path(folder), ((str(n), text) for n, text in enumerate(texts)), None)
        index = keywords.open(Path(folder))
        scores = {"dense": [], "words": []}
        for row, vector in zip(queries, asked, strict=True):
            for way, values in (("dense", vectors @ vector), ("words", index.scores(row["text"]))):
                best = np.full(len(places), -np.inf)
                np.maximum.at(best, column, values)
                ranked = places[np.argsort(-best, kind="stable")[:10]]
                scores[way].append(ndcg(list(ranked), judged[row["_id"]], 10))
    length = np.mean([len(chunk["text"]) for chunk in chunks])
    dense, words = np.mean(scores["dense"]), np.mean(scores["words"])
    return f"| {name} | {len(chunks)} | {length:.0f} | {taken:.0f} | {dense:.3f} | {words:.3f} |"


if __name__ == "__main__":
    main()
