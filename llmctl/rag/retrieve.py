"""query -> hits: the artifact's own embedder and store, and refusal when they are not the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, cast

from llmctl import artifact as artifacts
from llmctl import ui
from llmctl.errors import InputError
from llmctl.rag import filters, identity, keywords, passages
from llmctl.rag.embedders.base import Embedder
from llmctl.rag.ranking import Ranked, Ranking
from llmctl.rag.rowfile import RowFile
from llmctl.rag.stores.base import Store
from llmctl.runner import require
from llmctl.schema.retrieve import Retrieve

if TYPE_CHECKING:
    import numpy as np

    from llmctl.engines.base import Session
    from llmctl.rag.embedders.base import Live
    from llmctl.rag.rerankers.base import Reading, Reranker
    from llmctl.rag.stores.base import Opened
    from llmctl.rag.transforms.base import Asked


class Hit(TypedDict):
    """A passage that answers a question; a larger `score` is better, `parts` says how it came.

    `text` is what `spans` (characters of the document's text) show; without expansion and
    compression that is the chunk.
    """

    id: str
    score: float
    parts: dict[str, float]
    text: str
    spans: list[list[int]]
    source: dict[str, Any]
    title: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Found:
    """What a search gave: the passages, the question as it was searched, every step."""

    hits: list[Hit]
    asked: Asked
    trace: list[dict[str, Any]]


class LateEmbedder:
    """The store's embedder, loaded at its first use: words alone need no model."""

    def __init__(self, embedder: Embedder, folder: Path, dimensions: int, stack: ExitStack) -> None:
        self._embedder, self._folder, self._stack = embedder, folder, stack
        self.dimensions = dimensions

    @cached_property
    def live(self) -> Live:
        """The loaded embedder."""
        live = self._stack.enter_context(self._embedder.open())
        if live.dimensions != self.dimensions:
            raise InputError(
                f"{self._folder}: its vectors have {self.dimensions} dimensions, "
                f"the embedder gives {live.dimensions}; run `llmctl ingest` again"
            )
        identity.check(self._folder, live, self._embedder.kind)
        return live

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """See Live."""
        return self.live.texts(texts)

    def query(self, text: str) -> np.ndarray:
        """See Live."""
        return self.live.query(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.live, name)  # what only some embedders have, such as `tokens`


class Retriever:
    """A loaded artifact: ask it as often as you like, one question at a time."""

    def __init__(self, folder: Path, embedder: Live, store: Opened, stack: ExitStack) -> None:
        self.folder, self.embedder, self.store = folder, embedder, store
        self._stack = stack
        self._readings: dict[Reranker, Reading] = {}
        self._sessions: list[tuple[Any, Session]] = []
        self._matching: dict[str, frozenset[str]] = {}
        self._others: dict[Path, Retriever] = {}

    @cached_property
    def chunks(self) -> Mapping[str, Any]:
        """id -> chunk."""
        return RowFile(self.folder / "chunks.jsonl")

    @cached_property
    def documents(self) -> Mapping[str, Any]:
        """id -> document."""
        return RowFile(self.folder / "documents.jsonl")

    @cached_property
    def parents(self) -> Mapping[str, Any]:
        """id -> the bigger piece around small chunks; empty when the chunker makes none."""
        file = self.folder / "parents.jsonl"
        return RowFile(file) if file.is_file() else {}

    @cached_property
    def index(self) -> keywords.Index:
        """The keyword index."""
        return keywords.open(self.folder / "keywords")

    @cached_property
    def fields(self) -> dict[str, Any]:
        """Fields that a filter may name, as metadata.json describes them."""
        import json

        file = self.folder / "metadata.json"
        if not file.is_file():
            raise InputError(f"{self.folder}: has no metadata.json; run `llmctl ingest` again")
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))["fields"]
        return found

    @cached_property
    def order(self) -> dict[str, list[tuple[int, int]]]:
        """Document -> the spans of its chunks, in order."""
        found: dict[str, list[tuple[int, int]]] = {}
        for chunk in self.chunks.values():
            found.setdefault(chunk["document_id"], []).append((chunk["start"], chunk["end"]))
        return {document: sorted(spans) for document, spans in found.items()}

    @cached_property
    def _rows(self) -> tuple[dict[str, int], np.ndarray] | None:
        """(id -> row, vectors) of vectors.npy, whose row i is line i of chunks.jsonl."""
        import numpy as np

        file = self.folder / "vectors.npy"
        if not file.is_file():
            return None
        found = np.load(file, mmap_mode="r", allow_pickle=False)
        return {key: row for row, key in enumerate(self.chunks)}, found

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """The vectors of chunks, shape (ids, dimensions): from the file where there is one.

        A store gives them too, but in several milliseconds instead of a fraction of one.
        """
        import numpy as np

        if self._rows is None:
            return self.store.vectors(ids)
        place, all_ = self._rows
        return np.asarray(all_[[place[key] for key in ids]], dtype=np.float32)

    def ask(self, query: str, k: int = 5) -> list[Hit]:
        """The k best chunks by the default retrieval, best first."""
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one hit")
        return self.search(query, Retrieve(k=k, candidates=max(100, k))).hits

    def search(self, query: str, part: Retrieve, session: Session | None = None) -> Found:
        """What the recipe's `retrieve` finds; `session` is the model that its steps may ask."""
        if not query.strip():
            raise InputError("the query is empty; say what to look for")
        ranking = Ranking(self, part, self._session(part) or session)
        asked, ranked = ranking.run(query)
        chosen = ranking.retriever  # this one, unless a route chose another store
        hits = [chosen._hit(ranked, row) for row in range(len(ranked.ids))]
        found = chosen._shown(query, hits, part, ranking) if hits else []
        if asked.store is not None:
            for hit in found:
                hit["source"] = {"store": str(asked.store), **hit["source"]}
        return Found(found, asked, ranking.trace.steps)

    def other(self, store: Path) -> Retriever:
        """Another artifact's retriever; opened once, closed with this one."""
        if store not in self._others:
            self._others[store] = self._stack.enter_context(opened(store))
        return self._others[store]

    def filter_of(self, text: str) -> filters.Filter:
        """A filter that fits the store's metadata."""
        return filters.parse(text, self.fields)

    def matching(self, text: str) -> frozenset[str]:
        """Ids of all chunks that pass a filter; the last few filters are remembered."""
        if text not in self._matching:
            wanted = self.filter_of(text)
            found = (key for key, chunk in self.chunks.items() if wanted.matches(chunk["meta"]))
            if len(self._matching) >= 16:
                self._matching.pop(next(iter(self._matching)))
            self._matching[text] = frozenset(found)
        return self._matching[text]

    def fitting(self, text: str, ids: Collection[str]) -> set[str]:
        """Those of these chunks that pass a filter."""
        wanted = self.filter_of(text)
        return {key for key in ids if wanted.matches(self.chunks[key]["meta"])}

    def reading(self, reranker: Reranker) -> Reading:
        """A loaded reranker; loaded once."""
        if reranker not in self._readings:
            self._readings[reranker] = self._stack.enter_context(reranker.open(self.embedder))
        return self._readings[reranker]

    def _session(self, part: Retrieve) -> Session | None:
        """The part's own model; started once."""
        if part.engine is None:
            return None
        for engine, session in self._sessions:
            if engine == part.engine:
                return session
        require("search", part.engine.needs)
        session = self._stack.enter_context(part.engine.open())
        self._sessions.append((part.engine, session))
        return session

    def _hit(self, ranked: Ranked, row: int) -> Hit:
        chunk = self.chunks[ranked.ids[row]]
        return {
            "id": ranked.ids[row],
            "score": round(float(ranked.scores[row]), 6),
            "parts": ranked.parts[row],
            "text": chunk["text"],
            "spans": [[chunk["start"], chunk["end"]]],
            "source": chunk["source"],
            "title": chunk["meta"]["title"],
            "meta": chunk["meta"],
        }

    def _shown(self, query: str, hits: list[Hit], part: Retrieve, ranking: Ranking) -> list[Hit]:
        """Hits as passages: expanded, joined where they overlap, shortened."""
        if not (part.neighbours or part.compressor or (part.parents and self.parents)):
            return hits
        with ranking.trace.step("passages") as facts:
            order = self.order if part.neighbours else {}
            found = passages.wider(hits, part, self.chunks, self.parents, order)
            texts = {each.document: self.documents[each.document]["text"] for each in found}
            facts |= {"chunks": len(hits), "passages": len(found)}
        if part.compressor is not None:
            with ranking.trace.step(f"compress: {part.compressor.kind}") as facts:
                facts["characters"] = sum(e - s for each in found for s, e in each.spans)
                try:
                    found = passages.shorter(
                        query, found, part, texts, self.embedder, ranking.session
                    )
                except Exception as error:
                    # as with transforms: what a model cannot shorten is shown as it is
                    if not part.compressor.asks_engine:
                        raise
                    facts["failed"] = f"{type(error).__name__}: {error}"
                    ui.warn(f"nothing is compressed: {error}")
                facts["left"] = sum(e - s for each in found for s, e in each.spans)
        return [_as_hit(each, texts[each.document]) for each in found]


def _as_hit(passage: passages.Passage, document: str) -> Hit:
    spans = [list(span) for span in passage.spans]
    source = passage.hit["source"] | {"start": spans[0][0], "end": spans[-1][1]}
    if len(passage.hits) > 1:
        source["chunks"] = list(passage.hits)
    return {**passage.hit, "text": passage.text(document), "spans": spans, "source": source}


@contextmanager
def opened(folder: Path) -> Iterator[Retriever]:
    """Open what `llmctl ingest` wrote; a changed file or another embedding model is refused."""
    manifest = checked(folder)
    recipe = manifest["recipe"]
    embedder, store = Embedder.of(recipe["embedder"]), Store.of(recipe["store"])
    require("search", embedder.needs | store.needs)
    with ExitStack() as stack:
        dimensions = manifest["metrics"]["dimensions"]
        late = cast("Live", LateEmbedder(embedder, folder, dimensions, stack))
        yield Retriever(folder, late, stack.enter_context(store.open(folder / "store")), stack)


def checked(folder: Path) -> dict[str, Any]:
    """The manifest of an ingest artifact whose files and embedding model are as they were."""
    if not folder.is_dir():
        what = "is a file, no folder" if folder.is_file() else "is not there"
        raise InputError(f"{folder}: {what}; name what `llmctl ingest` made")
    manifest = artifacts.read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: is not an artifact (no manifest.json); run `llmctl ingest`")
    if manifest["stage"] != "ingest":
        raise InputError(f"{folder}: was made by `{manifest['stage']}`; search needs `ingest`'s")
    wrong = artifacts.changed_output(folder, manifest)
    if wrong:
        raise InputError(f"{folder}: {wrong} after `llmctl ingest` made it; run that stage again")
    made = manifest["inputs"].get("embedder.model")
    if made is not None:
        now = artifacts.find_input("embedder.model", made["ref"], str(folder), fetch=True)
        if now.digest != made["sha256"]:
            raise InputError(
                f"{folder}: was embedded with {made['ref']} {made['sha256'][:12]}, what is there "
                f"now is {now.digest[:12]}; run `llmctl ingest` again"
            )
    return manifest
