"""Near-duplicate removal, one thread: llmctl (NumPy, Numba) beside rensa and datasketch.

    python bench/dedup.py CORPUS    # docs.jsonl {id, text}; truth.jsonl {a, b, jaccard} for recall

Every engine runs in a process of its own on the same texts, word 5-grams at 0.8, shingling
included, reading the file and compiling left out. Recall is over the planted pairs with exact
Jaccard >= 0.8. The peers have their documented banding and check candidates by their sketch.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
N, THRESHOLD = 5, 0.8
WORD = re.compile(r"\w+")


def grams(text: str) -> list[str]:
    words = WORD.findall(text.lower())
    return [" ".join(words[i : i + N]) for i in range(max(1, len(words) - N + 1))]


def label(rows: int, pairs: list[tuple[int, int]]) -> np.ndarray:
    from llmctl.data.twins import components

    x, y = np.array(pairs or [(0, 0)], np.int64).T
    return components(rows, x, y)


def llmctl(texts: list[str], kernel: str) -> np.ndarray:
    from llmctl.data import kernels, twins
    from llmctl.data.dedupers.base import Deduper, Rows

    method = Deduper.of({"kind": "minhash", "threshold": THRESHOLD, "ngram": N})
    rows = Rows(texts, 0, kernels.kernel(kernel), int(os.environ.get("BENCH_THREADS", "1")))
    found = method.find(rows, np.ones(len(texts), bool))
    gone = np.flatnonzero(found.twin >= 0)
    x, y = np.append(found.clusters.x, found.twin[gone]), np.append(found.clusters.y, gone)
    return twins.components(len(texts), x, y)


def rensa(texts: list[str]) -> np.ndarray:
    from rensa import RMinHash, RMinHashLSH

    sketches = RMinHash.from_token_sets([grams(t) for t in texts], num_perm=128, seed=1)
    lsh = RMinHashLSH(threshold=THRESHOLD, num_perm=128, num_bands=16)
    lsh.insert_pairs(enumerate(sketches))
    pairs = [
        (j, i)
        for i, near in enumerate(lsh.query_all(sketches))
        for j in near
        if j < i and sketches[i].jaccard(sketches[j]) >= THRESHOLD
    ]
    return label(len(texts), pairs)


def datasketch(texts: list[str]) -> np.ndarray:
    from datasketch import MinHash, MinHashLSH

    sketches = []
    for text in texts:
        sketch = MinHash(num_perm=128)
        sketch.update_batch([g.encode() for g in grams(text)])
        sketches.append(sketch)
    lsh = MinHashLSH(threshold=THRESHOLD, num_perm=128)
    pairs = []
    for i, sketch in enumerate(sketches):
        near = lsh.query(sketch)
        pairs += [(j, i) for j in near if sketch.jaccard(sketches[j]) >= THRESHOLD]
        lsh.insert(i, sketch)
    return label(len(texts), pairs)


ENGINES: dict[str, tuple[str, Callable[[list[str]], np.ndarray]]] = {
    "llmctl-numba": ("numba", lambda texts: llmctl(texts, "numba")),
    "llmctl-numpy": ("numpy", lambda texts: llmctl(texts, "numpy")),
    "rensa": ("rensa", rensa),
    "datasketch": ("datasketch", datasketch),
}


def child(engine: str, corpus: Path) -> None:
    """Run one engine and print its figures."""
    with (corpus / "docs.jsonl").open(encoding="utf-8") as file:
        texts = {row["id"]: row["text"] for row in map(json.loads, file)}
    ids = {name: i for i, name in enumerate(texts)}
    run = ENGINES[engine][1]
    run(["one two three four five six"] * 3)  # imports and compiles outside the clock
    wall, cpu = time.perf_counter(), time.process_time()
    labels = run(list(texts.values()))
    figures = {"seconds": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    figures["docs_per_s"] = len(texts) / figures["seconds"]
    figures["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if (corpus / "truth.jsonl").exists():
        with (corpus / "truth.jsonl").open(encoding="utf-8") as file:
            truth = [p for p in map(json.loads, file) if p["jaccard"] >= THRESHOLD]
        same = [labels[ids[p["a"]]] == labels[ids[p["b"]]] for p in truth]
        figures["recall"] = sum(same) / max(1, len(same))
        figures["pairs"] = len(same)
    print(json.dumps(figures))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--child", choices=ENGINES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        child(args.child, args.corpus)
        return
    threads = ("RAYON_NUM_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    results = {}
    for name, (package, _) in ENGINES.items():
        if find_spec(package) is None:
            print(f"{name}: {package} is not installed", file=sys.stderr)
            continue
        command = [sys.executable, __file__, str(args.corpus), "--child", name]
        done = subprocess.run(
            command,
            env=os.environ | dict.fromkeys(threads, "1"),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            print(f"{name}: {done.stderr.strip()[-300:]}", file=sys.stderr)
            continue
        results[name] = json.loads(done.stdout)
    base = results["llmctl-numpy"]["cpu"]
    print("| engine | seconds | CPU s | docs/s | peak MB | recall (pairs) | CPU / llmctl-numpy |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name, f in results.items():
        recall = f"{f['recall']:.4f} ({f['pairs']})" if "recall" in f else ""
        print(
            f"| {name} | {f['seconds']:.2f} | {f['cpu']:.2f} | {f['docs_per_s']:,.0f} "
            f"| {f['peak_mb']:.0f} | {recall} | {f['cpu'] / base:.2f} |"
        )


if __name__ == "__main__":
    main()
