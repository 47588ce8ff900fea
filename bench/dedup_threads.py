"""How much of dedup's work two threads share: read, exact, MinHash, each on one and two threads.

    python bench/dedup_threads.py DOCS.jsonl

On a machine that does other work, wall seconds say little. Beside them stand the CPU seconds of
all threads, those of the main thread (which does what is not shared), and the critical path that
follows: main + (all - main) / threads. Compiling and starting are left out.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from llmctl.data import kernels, scan
from llmctl.data.dedupers.base import Deduper, Rows
from llmctl.data.entries import collected
from llmctl.stages.dedup import warm_up

T = TypeVar("T")
ROUNDS = 3


def timed(work: Callable[[], T], threads: int) -> tuple[T, list[float]]:
    """The result, and [wall, CPU, main thread, critical path] seconds."""
    before = time.perf_counter(), time.process_time(), time.thread_time()
    made = work()
    after = time.perf_counter(), time.process_time(), time.thread_time()
    wall, cpu, main = (b - a for a, b in zip(before, after, strict=True))
    return made, [wall, cpu, main, main + (cpu - main) / threads if threads > 1 else cpu]


def once(data: Path, threads: int) -> dict[str, list[float]]:
    use = kernels.kernel("numba")
    read = timed(lambda: collected(scan.batches(data, (), threads), [], None)[0], threads)
    entries, found = read[0], {"read": read[1]}
    rows, alive = Rows(entries.texts, 0, use, threads), np.ones(len(entries), bool)
    for kind in ("exact", "minhash"):
        made, found[kind] = timed(lambda k=kind, a=alive: Deduper.of(k).find(rows, a), threads)
        alive = alive & (made.twin < 0)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("docs", type=Path)
    data = parser.parse_args().docs
    warm_up()
    once(data, 1)  # compiles
    best: dict[tuple[int, str], list[float]] = {}
    for _ in range(ROUNDS):
        for threads in (1, 2):
            for part, seconds in once(data, threads).items():
                known = best.get((threads, part), seconds)
                best[threads, part] = [min(a, b) for a, b in zip(known, seconds, strict=True)]
    print("| part | threads | wall s | CPU s | main thread s | critical path s | times faster |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for (threads, part), seconds in sorted(best.items(), key=lambda item: item[0][::-1]):
        faster = best[1, part][3] / seconds[3]
        print(f"| {part} | {threads} | {' | '.join(f'{s:.2f}' for s in seconds)} | {faster:.2f} |")


if __name__ == "__main__":
    main()
