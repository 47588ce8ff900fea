"""How often `ask` declines before a model is asked: questions with and without an answer.

    python bench/ask.py DATA UNANSWERABLE [--cache FOLDER]

DATA has judged collections in BEIR form, as for bench/retrieval.py; their own queries are
answerable, and each other's are not. UNANSWERABLE is a JSONL file (also .gz) of rows with a
`question` about everyday matters; 50 of them are drawn. No threshold is tuned on any of these: it
comes from the general questions in llmctl/rag/evidence.py.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

from retrieval import Collection, Remembered, read

from llmctl.rag import evidence
from llmctl.rag.embedders.base import Embedder
from llmctl.schema.ask import Decline


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("unanswerable", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/bench-retrieval"))
    options = parser.parse_args()
    decline = Decline()
    everyday = [row["question"] for row in read(options.unanswerable)]
    foreign = random.Random(0).sample(everyday, 50)
    folders = sorted(path for path in options.data.iterdir() if (path / "qrels.tsv").exists())
    with Embedder.of("sentence_transformers").open() as live:
        embedder = Remembered(live)
        collections = [Collection(folder, options.cache, embedder) for folder in folders]
        print("| store | threshold | own queries answered | other's declined | everyday declined |")
        print("|---|---:|---:|---:|---:|")
        for each in collections:
            with each.shelf() as retriever:
                least = evidence.usual(retriever).threshold(decline.deviations or 0, decline.least)

                def known(questions: list[str], retriever=retriever, least=least) -> int:
                    found = (evidence.evidence(retriever, q)["evidence"] for q in questions)
                    return sum(value >= least for value in found)

                own = [row["text"] for row in each.queries]
                others = [r["text"] for c in collections if c is not each for r in c.queries]
                print(
                    f"| {each.name} | {least:.3f} | {known(own)} of {len(own)} "
                    f"| {len(others) - known(others)} of {len(others)} "
                    f"| {len(foreign) - known(foreign)} of {len(foreign)} |"
                )


if __name__ == "__main__":
    main()
