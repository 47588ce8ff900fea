"""Chroma, embedded: HNSW over cosine in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.rag.stores._copies import private_copy
from llmctl.rag.stores.base import Near, Store

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.collection import Snapshot

COLLECTION = "chunks"
AT_ONCE = 1000
DEAD = "removed.txt"
"""How many vectors were removed since the graph was built: they stay in it as dead ends."""


class Opened:
    """The collection of one store."""

    def __init__(self, collection: Any) -> None:
        self.collection = collection
        self._count = collection.count()  # asked once: it takes as long as the search itself

    def near(
        self, vector: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k nearest; Chroma gives 1 - cosine."""
        count = min(k, self._count if allowed is None else len(allowed))
        if count == 0:
            return []
        found = self.collection.query(
            query_embeddings=[vector.tolist()],
            ids=None if allowed is None else list(allowed),
            n_results=count,
            include=["distances"],
        )
        rows = zip(found["ids"][0], found["distances"][0], strict=True)
        # equal scores come in the order of the id, so that the answer does not depend on the graph
        return sorted((Near(i, round(1 - d, 6)) for i, d in rows), key=lambda n: (-n.score, n.id))

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Chroma gives the rows in an order of its own."""
        import numpy as np

        found = self.collection.get(ids=list(ids), include=["embeddings"])
        place = {key: row for row, key in enumerate(found["ids"])}
        rows: np.ndarray = np.asarray(found["embeddings"], dtype=np.float32)
        return rows[[place[key] for key in ids]]


class ChromaStore(Store):
    """An HNSW graph; larger numbers find more of the true neighbours and cost time."""

    needs: ClassVar[dict[str, str]] = {"chromadb": "rag"}

    max_neighbors: int = Field(16, ge=2, le=512, description="Links of each vector in the graph.")
    ef_construction: int = Field(
        100, ge=1, le=10000, description="Candidates looked at when a vector is put in."
    )
    ef_search: int = Field(
        100, ge=1, le=10000, description="Candidates looked at when a question is asked."
    )

    def settings(self) -> dict[str, Any]:
        """Chroma's configuration of the collection."""
        hnsw = {
            "space": "cosine",
            "max_neighbors": self.max_neighbors,
            "ef_construction": self.ef_construction,
            "ef_search": self.ef_search,
        }
        return {"hnsw": hnsw, "embedding_function": None}

    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """Ids and vectors; texts and facts are in chunks.jsonl, under the same ids."""
        taken = snapshot.old is not None and self._take(folder, snapshot)
        with client(folder) as chroma:
            if taken:
                collection = chroma.get_collection(COLLECTION, embedding_function=None)
                for first in range(0, len(snapshot.removed), AT_ONCE):
                    collection.delete(ids=list(snapshot.removed[first : first + AT_ONCE]))
            else:
                collection = chroma.create_collection(COLLECTION, configuration=self.settings())
            for chunks, vectors in snapshot.blocks(AT_ONCE, snapshot.added if taken else None):
                collection.add(ids=[chunk["id"] for chunk in chunks], embeddings=vectors)
                told(len(chunks))

    def prepare(self) -> None:
        """Chroma takes half a second to import."""
        import chromadb  # noqa: F401

    def _take(self, folder: Path, snapshot: Snapshot) -> bool:
        """Copy the store before, unless too much of its graph would be dead or new."""
        before = snapshot.old / "store" if snapshot.old else folder
        dead = len(snapshot.removed)
        if (before / DEAD).is_file():
            dead += int((before / DEAD).read_text())
        if dead > snapshot.rows / 4 or len(snapshot.added) > snapshot.rows / 2:
            return False
        shutil.copytree(before, folder, dirs_exist_ok=True)
        (folder / DEAD).write_text(str(dead))
        return True

    @contextmanager
    def open(self, folder: Path) -> Iterator[Opened]:
        """Open a private copy."""
        with client(private_copy(folder)) as chroma:
            yield Opened(chroma.get_collection(COLLECTION, embedding_function=None))


@contextmanager
def client(folder: Path) -> Iterator[Any]:
    """Chroma in a folder, silent on the network, closed with its files written."""
    import chromadb
    from chromadb.config import Settings

    chroma = chromadb.PersistentClient(str(folder), Settings(anonymized_telemetry=False))
    try:
        yield chroma
    finally:
        chroma.close()
