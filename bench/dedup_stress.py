"""Inputs that break deduplication elsewhere: repeats without end, and rows without measure.

    python bench/dedup_stress.py

A million equal rows, one template cluster of 100,000, rows of one word, empty rows, and three rows
of 46 MB: CPU seconds of each method. Time has to grow with the rows, not with their pairs.
"""

from __future__ import annotations

import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))


def inputs() -> Iterator[tuple[str, list[str]]]:
    passage = " ".join(f"word{i}" for i in range(100))
    yield "1,000,000 equal rows", ["the same row of seven words again"] * 1_000_000
    yield "1,000,000 equal rows of 60 words", [" ".join(f"w{i}" for i in range(60))] * 1_000_000
    yield "template with 100,000 numbers", [f"{passage} number {i}" for i in range(100_000)]
    yield "100,000 rows of one word", ["word"] * 50_000 + [f"w{i}" for i in range(50_000)]
    yield "100,000 empty rows", [""] * 100_000
    chance = random.Random(1)
    words = (
        chance.choice("abcdefghijklmnop") * 5 + str(chance.randint(0, 9**5))
        for _ in range(4_500_000)
    )
    large = " ".join(words)
    yield f"3 rows of {len(large) >> 20} MB", [large, f"{large} end", large[::-1]]


def main() -> None:
    from llmctl.data import kernels
    from llmctl.data.dedupers.base import Deduper, Rows

    print("| rows | method | CPU s | dropped | peak MB so far |")
    print("|---|---|---:|---:|---:|")
    for name, texts in inputs():
        for kind in ("exact", "minhash", "substring"):
            start = time.process_time()
            found = Deduper.of(kind).find(
                Rows(texts, 0, kernels.kernel(), 1), np.ones(len(texts), bool)
            )
            seconds = time.process_time() - start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            print(f"| {name} | {kind} | {seconds:.1f} | {(found.twin >= 0).sum()} | {peak} |")


if __name__ == "__main__":
    main()
