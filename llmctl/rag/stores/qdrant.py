"""Qdrant, embedded: its own engine in this process (Qdrant Edge), HNSW over cosine in a folder.

The embedded mode of qdrant-client is not used: it keeps points as pickles, which run code when a
stranger's artifact is opened.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.errors import InputError
from llmctl.rag.stores._copies import private_copy
from llmctl.rag.stores._points import KEY, point_of
from llmctl.rag.stores.base import Near, Store

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.collection import Snapshot

AT_ONCE = 1000
SHARD = "shard"


class Opened:
    """One shard."""

    def __init__(self, shard: Any, ef_search: int) -> None:
        self._shard, self._ef_search = shard, ef_search

    def near(
        self, vector: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k nearest by cosine."""
        import qdrant_edge as edge

        if k < 1 or (allowed is not None and not allowed):
            return []
        only = None
        if allowed is not None:
            only = edge.Filter(must=[edge.HasIdCondition({point_of(each) for each in allowed})])
        found = self._shard.query(
            edge.QueryRequest(
                query=edge.Query.Nearest(vector.tolist()),
                limit=k,
                filter=only,
                with_payload=True,
                params=edge.SearchParams(hnsw_ef=max(self._ef_search, k)),
            )
        )
        near = (Near(each.payload[KEY], round(each.score, 6)) for each in found)
        # equal scores come in the order of the id, so that the answer does not depend on the graph
        return sorted(near, key=lambda each: (-each.score, each.id))

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Qdrant gives the points in an order of its own."""
        import numpy as np

        points = self._shard.retrieve(
            [point_of(each) for each in ids], with_vector=True, with_payload=False
        )
        place = {each.id: each.vector for each in points}
        return np.asarray([place[point_of(each)] for each in ids], dtype=np.float32)


class QdrantStore(Store):
    """Below `index_from` vectors every one is compared; above, there is an HNSW graph."""

    needs: ClassVar[dict[str, str]] = {"qdrant-edge-py": "qdrant"}

    max_neighbors: int = Field(16, ge=4, le=512, description="Links of each vector in the graph.")
    ef_construction: int = Field(
        100, ge=4, le=10000, description="Candidates looked at when a vector is put in."
    )
    ef_search: int = Field(
        100, ge=1, le=10000, description="Candidates looked at when a question is asked."
    )
    index_from: int = Field(
        10_000, ge=1, description="Vectors from which on a graph is built instead of comparing all."
    )

    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """Ids and vectors; texts and facts are in chunks.jsonl, under the same ids."""
        import qdrant_edge as edge

        before = snapshot.old / "store" / SHARD if snapshot.old else None
        settings = self.settings(int(snapshot.vectors.shape[1]))
        if before is not None:
            shutil.copytree(before, folder / SHARD)
            shard = edge.EdgeShard.load(str(folder / SHARD), settings)
        else:
            (folder / SHARD).mkdir()
            shard = edge.EdgeShard.create(str(folder / SHARD), settings)
        try:
            gone: list[Any] = [point_of(each) for each in snapshot.removed] if before else []
            for first in range(0, len(gone), AT_ONCE):
                shard.update(edge.UpdateOperation.delete_points(gone[first : first + AT_ONCE]))
            for chunks, vectors in snapshot.blocks(AT_ONCE, snapshot.added if before else None):
                points = [
                    edge.Point(id=point_of(chunk["id"]), vector=row, payload={KEY: chunk["id"]})
                    for chunk, row in zip(chunks, vectors.tolist(), strict=True)
                ]
                shard.update(edge.UpdateOperation.upsert_points(points))
                told(len(chunks))
            shard.optimize()
            shard.flush()
        finally:
            shard.close()

    def settings(self, dimensions: int) -> Any:
        """Qdrant's configuration; a snapshot is written whole, so there is no log of updates."""
        import qdrant_edge as edge

        kilobytes = max(1, self.index_from * 4 * dimensions // 1024)  # Qdrant counts these
        return edge.EdgeConfig(
            vectors=edge.EdgeVectorParams(size=dimensions, distance=edge.Distance.Cosine),
            hnsw_config=edge.HnswIndexConfig(
                m=self.max_neighbors,
                ef_construct=self.ef_construction,
                full_scan_threshold=kilobytes,
            ),
            optimizers=edge.EdgeOptimizersConfig(
                indexing_threshold=kilobytes, default_segment_number=1
            ),
            wal_enabled=False,
        )

    @contextmanager
    def open(self, folder: Path) -> Iterator[Opened]:
        """Open a private copy."""
        import qdrant_edge as edge

        if not (folder / SHARD).is_dir():
            raise InputError(f"{folder}: is not a whole store; run `llmctl ingest` again")
        shard = edge.EdgeShard.load(str(private_copy(folder) / SHARD))
        try:
            yield Opened(shard, self.ef_search)
        finally:
            shard.close()
