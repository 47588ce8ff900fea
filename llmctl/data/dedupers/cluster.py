"""Fewer rows of the same topic: groups by embedding, a few rows of each stay."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data import vectors
from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.twins import Pairs
from llmctl.rag.embedders.base import Embedder


class ClusterDeduper(Deduper):
    """K-means over the embeddings; the first `keep` rows of each cluster stay."""

    order: ClassVar[int] = 4
    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "rag", "torch": "rag"}
    measure: ClassVar[str] = "cosine of a dropped row and its cluster's first row"

    clusters: int = Field(100, ge=1, le=65536, description="Number of groups.")
    keep: int = Field(1, ge=1, description="Rows of each group that stay, preferred ones first.")
    embedder: Embedder = Field(
        default_factory=lambda: Embedder.of("sentence_transformers"),
        description="How rows become vectors.",
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"{self.keep} of each of {self.clusters} clusters"

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """Group what is alive, held-out rows left out; the twin is the cluster's first row."""
        ids = np.flatnonzero(alive)
        ids = ids[ids >= rows.fixed]
        twin, score = np.full(len(rows.texts), -1, np.int64), np.zeros(len(rows.texts))
        own = vectors.embedded(self.embedder, rows.texts, ids, rows.scratch, rows.file("vectors"))
        if len(ids) > self.clusters:
            centres = vectors.centres(own, self.clusters, rows.seed)
            group = vectors.nearest(own, centres, 1)[0][:, 0]
            order = np.lexsort((ids, group))
            new = np.append(True, np.diff(group[order]) != 0)
            head = np.maximum.accumulate(np.where(new, np.arange(len(order)), 0))
            gone = np.flatnonzero(np.arange(len(order)) - head >= self.keep)
            mine, first = order[gone], order[head[gone]]
            twin[ids[mine]] = ids[first]
            for at in range(0, len(mine), vectors.BLOCK):
                part = slice(at, at + vectors.BLOCK)
                cosine = (own[mine[part]] * own[first[part]]).sum(axis=1)
                score[ids[mine[part]]] = np.clip(cosine, 0, 1)
        y = np.flatnonzero(twin >= 0)
        return Found(twin, score, Pairs(twin[y], y, score[y]), score[y])
