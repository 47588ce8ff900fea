"""How much of dedup's work two threads share: read, exact, MinHash, each on one and two threads.

    python bench/dedup_threads.py DOCS.jsonl

Compiling and starting are left out. How much faster two cores of the machine are at best stands
beside it: arithmetic of its own for each thread, without memory, in the same rounds.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numba as nb
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
from llmctl.data import kernels, scan
from llmctl.data.dedupers.base import Deduper, Rows
from llmctl.data.entries import collected
from llmctl.data.threads import mapped
from llmctl.stages.dedup import warm_up

T = TypeVar("T")
ROUNDS = 5
STEPS = 50_000_000


def timed(work: Callable[[], T]) -> tuple[T, list[float]]:
    """The result, and the wall and CPU seconds that it took."""
    before = time.perf_counter(), time.process_time()
    made = work()
    return made, [time.perf_counter() - before[0], time.process_time() - before[1]]


@nb.njit(nogil=True)
def arithmetic(steps: int) -> np.uint64:
    """Steps of xorshift64: each waits for the one before it."""
    state = np.uint64(88172645463325252)
    for _ in range(steps):
        state ^= state << np.uint64(13)
        state ^= state >> np.uint64(7)
        state ^= state << np.uint64(17)
    return state


def once(data: Path, threads: int) -> dict[str, list[float]]:
    use = kernels.kernel("numba")
    found = {"arithmetic": timed(lambda: mapped(arithmetic, [STEPS] * 8, threads))[1]}
    entries, found["read"] = timed(lambda: collected(scan.batches(data, (), threads), [], None)[0])
    rows, alive = Rows(entries.texts, 0, use, threads), np.ones(len(entries), bool)
    for kind in ("exact", "minhash"):
        made, found[kind] = timed(lambda k=kind, a=alive: Deduper.of(k).find(rows, a))
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
    print("| part | threads | wall s | CPU s | times faster |")
    print("|---|---:|---:|---:|---:|")
    for part in dict.fromkeys(part for _, part in best):
        for threads in (1, 2):
            wall, cpu = best[threads, part]
            faster = best[1, part][0] / wall
            print(f"| {part} | {threads} | {wall:.3f} | {cpu:.3f} | {faster:.2f} |")


if __name__ == "__main__":
    main()
