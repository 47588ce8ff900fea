"""nDCG@10 of llmctl's retrieval on judged collections, next to a plain bm25s + MiniLM script.

    python bench/retrieval.py DATA [--cache FOLDER] [--tune] [--rerank] [--small] [--latency]

DATA has one folder in BEIR form (corpus, queries, qrels) for each collection. One chunk is one
document (title and text). Judgements are used for measuring only; `--tune` looks for the best
settings on each collection and reports them on the others. `--small` searches a few documents for
each query, a quarter of them relevant at most and the others the nearest. `--latency` measures
questions to a Chroma store of 50,000 chunks, each made of pieces of two documents.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from llmctl import rows
from llmctl.evaluation.relevance import ndcg
from llmctl.rag import keywords
from llmctl.rag.collection import Snapshot
from llmctl.rag.embedders.base import Embedder
from llmctl.rag.metadata import Described
from llmctl.rag.retrieve import Retriever
from llmctl.rag.stores.base import Store
from llmctl.schema.keywords import Keywords
from llmctl.schema.retrieve import Retrieve


def plain_words() -> Keywords:
    """What the plain script counts: no stemmer, bm25s's stop words."""
    from bm25s.stopwords import STOPWORDS_EN

    return Keywords(stemmer="none", stop_words=tuple(STOPWORDS_EN))


class Remembered:
    """The packaged MiniLM with its vectors kept on disk: what is measured is the retrieval."""

    dimensions, cut = 384, 0

    def __init__(self, live: Any) -> None:
        self.live, self.known, self.token = live, {}, {}

    def query(self, text: str) -> np.ndarray:
        if text not in self.known:
            self.known[text] = self.live.query(text)
        return self.known[text]

    def texts(self, texts: list[str]) -> np.ndarray:
        return self.live.texts(texts)

    def tokens(self, texts: list[str]) -> list[np.ndarray]:
        new = [text for text in texts if text not in self.token]
        self.token.update(zip(new, self.live.tokens(new) if new else (), strict=True))
        return [self.token[text] for text in texts]


class Collection:
    """One judged collection with its vectors."""

    def __init__(self, folder: Path, cache: Path, embedder: Remembered) -> None:
        self.name, self.embedder = folder.name, embedder
        corpus = list(read(next(folder.glob("corpus.jsonl*"))))
        self.ids = [row["_id"] for row in corpus]
        self.texts = [f"{row['title']} {row['text']}".strip() for row in corpus]
        self.queries = list(read(next(folder.glob("queries.jsonl*"))))
        self.judged: dict[str, dict[str, int]] = {}
        for line in (folder / "qrels.tsv").read_text().splitlines()[1:]:
            query, document, grade = line.split("\t")
            self.judged.setdefault(query, {})[document] = int(grade)
        file = cache / f"{self.name}.npy"
        if not file.exists():
            cache.mkdir(parents=True, exist_ok=True)
            np.save(file, embedder.texts(self.texts))
        self.vectors = np.load(file)
        self.cache = cache

    def score(self, search: Callable[[str], list[str]]) -> np.ndarray:
        """nDCG@10 of each judged query."""
        found = [
            ndcg(search(row["text"]), self.judged[row["_id"]], 10)
            for row in self.queries
            if row["_id"] in self.judged
        ]
        return np.array(found)

    @contextmanager
    def shelf(self, settings: Keywords | None = None) -> Iterator[Retriever]:
        """An llmctl store of it."""
        name = "plain" if settings else "default"
        with store(self.cache / f"{self.name}-{name}", self, settings) as retriever:
            yield retriever


@contextmanager
def store(folder: Path, source: Any, settings: Keywords | None) -> Iterator[Retriever]:
    """A store of `ids`, `texts` and `vectors` under `folder`, made once."""
    chroma = Store.of("chroma")
    chunks = [
        {"id": key, "text": text, "document_id": key, "start": 0, "end": len(text),
         "source": {"document": key, "uri": key}, "meta": {"title": key, "headings": []}}
        for key, text in zip(source.ids, source.texts, strict=True)
    ]  # fmt: skip
    if not (folder / "done").exists():
        (folder / "store").mkdir(parents=True)
        rows.write_jsonl(folder / "chunks.jsonl", chunks)
        keywords.build(folder / "keywords", zip(source.ids, source.texts, strict=True), settings)
        described = Described({})
        for chunk in chunks:
            described.add(chunk)
        (folder / "metadata.json").write_text(json.dumps(described.row()))
        np.save(folder / "vectors.npy", source.vectors.astype(np.float32))
        chroma.write(folder / "store", Snapshot(folder, "bench"), lambda count: None)
        (folder / "done").touch()
    with ExitStack() as stack:
        found = stack.enter_context(chroma.open(folder / "store"))
        yield Retriever(folder, source.embedder, found, stack)


def read(path: Path) -> Iterator[dict[str, Any]]:
    """Rows of a JSONL file, packed or not."""
    with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
        yield from map(json.loads, file)


def plain(collection: Collection) -> dict[str, np.ndarray]:
    """The script to beat: bm25s with its English stop words, cosines, fusion over all documents."""
    import bm25s

    def tokens(texts: list[str]) -> Any:
        return bm25s.tokenize(texts, stopwords="en", show_progress=False, return_ids=False)

    index = bm25s.BM25()
    index.index(tokens(collection.texts), show_progress=False)

    def both(query: str) -> tuple[np.ndarray, np.ndarray]:
        words = index.get_scores(tokens([query])[0])
        return words, collection.vectors @ collection.embedder.query(query)

    def share(scores: np.ndarray) -> np.ndarray:
        return (scores - scores.min()) / (np.ptp(scores) or 1)

    def ranks(scores: np.ndarray) -> np.ndarray:
        return 1 / (61 + np.argsort(np.argsort(-scores, kind="stable"), kind="stable"))

    def best(score: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[[str], list[str]]:
        def search(query: str) -> list[str]:
            order = np.argsort(-score(*both(query)), kind="stable")[:10]
            return [collection.ids[i] for i in order]

        return search

    ways = {
        "plain BM25 (bm25s)": lambda w, d: w,
        "plain dense": lambda w, d: d,
        "plain hybrid 0.5": lambda w, d: (share(w) + share(d)) / 2,
        "plain RRF": lambda w, d: ranks(w) + ranks(d),
    }
    return {name: collection.score(best(way)) for name, way in ways.items()}


def way(retriever: Retriever, **keys: Any) -> Callable[[str], list[str]]:
    """A search with these keys of `retrieve`."""
    part = Retrieve.model_validate({"k": 10, **keys})
    return lambda query: [hit["id"] for hit in retriever.search(query, part).hits]


WAYS: dict[str, dict[str, Any]] = {
    "dense": {"mode": "dense", "smoothing": 0},
    "BM25, stemmer and stop words": {"mode": "bm25", "smoothing": 0},
    "hybrid 0.5": {"smoothing": 0},
    "RRF": {"smoothing": 0, "fusion": "rrf"},
    "hybrid 0.5 + feedback": {"smoothing": 0, "transforms": ["feedback"]},
    "dense + smoothing": {"mode": "dense"},
    "BM25 + smoothing": {"mode": "bm25"},
    "RRF + smoothing": {"fusion": "rrf"},
    "**default: hybrid 0.5 + smoothing**": {},
    "default + feedback": {"transforms": ["feedback"]},
}
LATE = {
    "hybrid 0.5 + late interaction": {
        "smoothing": 0, "reranker": {"kind": "late_interaction", "weight": 0.2}
    },
    "default + late interaction": {"reranker": {"kind": "late_interaction", "weight": 0.2}},
}  # fmt: skip


def measure(collections: list[Collection], rerank: bool) -> dict[str, list[np.ndarray]]:
    """name -> nDCG@10 of each query, for each collection."""
    found: dict[str, list[np.ndarray]] = {}
    for collection in collections:
        for name, scores in plain(collection).items():
            found.setdefault(name, []).append(scores)
        with collection.shelf(plain_words()) as retriever:
            name = "BM25, no stemmer, bm25s's stop words"
            scores = collection.score(way(retriever, mode="bm25", smoothing=0))
            found.setdefault(name, []).append(scores)
        with collection.shelf() as retriever:
            for name, keys in (WAYS | (LATE if rerank else {})).items():
                found.setdefault(name, []).append(collection.score(way(retriever, **keys)))
    return found


def interval(differences: list[np.ndarray]) -> tuple[float, float]:
    """95 % of the mean of the collections' means, by resampling queries."""
    random_ = np.random.default_rng(0)
    draws = [random_.choice(each, (10_000, len(each))).mean(axis=1) for each in differences]
    low, high = np.quantile(np.mean(draws, axis=0), [0.025, 0.975])
    return float(low), float(high)


def tune(collections: list[Collection]) -> None:
    """The best of 36 settings on each collection, measured on the others."""
    grid = itertools.product((0.3, 0.5, 0.7), (0.0, 0.3, 0.5, 0.7), (4, 8, 16))
    settings = [{"alpha": a, "smoothing": s, "smoothing_neighbours": n} for a, s, n in grid]
    table: list[list[float]] = [[] for _ in settings]
    for collection in collections:
        with collection.shelf() as retriever:
            for row, keys in zip(table, settings, strict=True):
                row.append(float(collection.score(way(retriever, **keys)).mean()))
    print("\n| tuned on | alpha, smoothing, neighbours | nDCG@10 there | on the other |")
    print("|---|---|---:|---:|")
    for number, collection in enumerate(collections):
        best = max(range(len(settings)), key=lambda i: table[i][number])
        others = np.mean([v for n, v in enumerate(table[best]) if n != number])
        values = ", ".join(map(str, settings[best].values()))
        print(f"| {collection.name} | {values} | {table[best][number]:.3f} | {others:.3f} |")


def small(collections: list[Collection]) -> None:
    """Smoothing where there are few candidates: off, with its whole share, and as it is."""
    print("\n| documents | none | whole share | default | default - whole share |")
    print("|---:|---:|---:|---:|---:|")
    for size in (12, 30):
        ways: list[dict[str, Any]] = [
            {"smoothing": 0}, {"smoothing_neighbours": size // 10}, {}
        ]  # fmt: skip
        found: list[list[list[float]]] = [[[] for _ in collections] for _ in ways]
        for number, collection in enumerate(collections):
            draw = random.Random(size)
            with collection.shelf() as retriever:
                for row in collection.queries:
                    chosen = _few(collection, row, size, draw)
                    if not chosen:
                        continue
                    names = ", ".join(f"'{key}'" for key in chosen)
                    grades = {k: g for k, g in collection.judged[row["_id"]].items() if k in chosen}
                    for scores, keys in zip(found, ways, strict=True):
                        search = way(retriever, filter=f"title in ({names})", **keys)
                        scores[number].append(ndcg(search(row["text"]), grades, 10))
        none, whole, default = ([np.array(scores) for scores in each] for each in found)
        gain = [b - a for a, b in zip(whole, default, strict=True)]
        low, high = interval(gain)
        values = " | ".join(f"{mean(each):.3f}" for each in (none, whole, default))
        print(f"| {size} | {values} | {mean(gain):+.3f} ({low:+.3f} to {high:+.3f}) |", flush=True)


def _few(
    collection: Collection, query: dict[str, Any], size: int, draw: random.Random
) -> list[str]:
    """Ids of some relevant documents, and of others among the 200 nearest."""
    grades = collection.judged.get(query["_id"], {})
    good = [key for key in collection.ids if grades.get(key, 0) > 0]
    if not good:
        return []
    near = np.argsort(-(collection.vectors @ collection.embedder.query(query["text"])))[:200]
    others = [collection.ids[i] for i in near if collection.ids[i] not in good]
    good = draw.sample(good, min(len(good), size // 4))
    return good + draw.sample(others, size - len(good))


class Many:
    """50,000 chunks: halves of two documents, the mean of their vectors with some noise."""

    def __init__(self, collections: list[Collection], count: int = 50_000) -> None:
        texts = [text for each in collections for text in each.texts]
        vectors = np.concatenate([each.vectors for each in collections])
        draw, noise = random.Random(0), np.random.default_rng(0)
        pairs = [(draw.randrange(len(texts)), draw.randrange(len(texts))) for _ in range(count)]
        self.ids = [f"{number:016x}" for number in range(count)]
        self.texts = [texts[a][:500] + " " + texts[b][:500] for a, b in pairs]
        mixed = np.array([vectors[a] + vectors[b] for a, b in pairs])
        mixed += noise.normal(scale=0.02, size=mixed.shape)
        self.vectors = (mixed / np.linalg.norm(mixed, axis=1, keepdims=True)).astype(np.float32)
        self.embedder = collections[0].embedder
        self.queries = [row["text"] for each in collections for row in each.queries]


def latency(collections: list[Collection], cache: Path) -> None:
    """Milliseconds of a question, with and without embedding it."""
    many = Many(collections)
    print("\n| 50,000 chunks | p50 ms | p95 ms | p50 CPU ms | p95 CPU ms |")
    print("|---|---:|---:|---:|---:|")
    with store(cache / "many", many, None) as retriever:
        for name, keys in {
            "hybrid, default": {},
            "hybrid without smoothing": {"smoothing": 0},
            "dense": {"mode": "dense", "smoothing": 0},
            "bm25": {"mode": "bm25", "smoothing": 0},
        }.items():
            search = way(retriever, **keys)
            for query in many.queries[:20]:
                search(query)
            _row(name, [seconds(search, query) for query in many.queries])
        live = many.embedder.live
        _row("embedding the question", [seconds(live.query, query) for query in many.queries])


def seconds(what: Callable[[str], Any], query: str) -> tuple[float, float]:
    """By the clock, and of CPU."""
    begin, cpu = time.perf_counter(), time.process_time()
    what(query)
    return time.perf_counter() - begin, time.process_time() - cpu


def _row(name: str, times: list[tuple[float, float]]) -> None:
    values = np.quantile(np.array(times) * 1000, [0.5, 0.95], axis=0).T.ravel()
    print(f"| {name} | {' | '.join(f'{value:.1f}' for value in values)} |", flush=True)


def main() -> None:
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, default=Path("build/bench-retrieval"))
    for flag in ("tune", "rerank", "small", "latency"):
        parser.add_argument(f"--{flag}", action="store_true")
    options = parser.parse_args()
    folders = sorted(path for path in options.data.iterdir() if (path / "qrels.tsv").exists())
    with Embedder.of("sentence_transformers").open() as live:
        embedder = Remembered(live)
        collections = [Collection(folder, options.cache, embedder) for folder in folders]
        found = measure(collections, options.rerank)
        names = [each.name for each in collections]
        print(f"| nDCG@10 | {' | '.join(names)} | mean | against the best plain |")
        print("|---|" + "---:|" * (len(names) + 2))
        best = max((n for n in found if n.startswith("plain")), key=lambda n: mean(found[n]))
        for name, scores in found.items():
            gain = [a - b for a, b in zip(scores, found[best], strict=True)]
            low, high = interval(gain)
            values = " | ".join(f"{each.mean():.3f}" for each in scores)
            change = f"{mean(gain):+.3f} ({low:+.3f} to {high:+.3f})" if name != best else ""
            print(f"| {name} | {values} | {mean(scores):.3f} | {change} |")
        if options.tune:
            tune(collections)
        if options.small:
            small(collections)
        if options.latency:
            latency(collections, options.cache)


def mean(scores: list[np.ndarray]) -> float:
    """Mean of the collections' means."""
    return float(np.mean([each.mean() for each in scores]))


if __name__ == "__main__":
    main()
