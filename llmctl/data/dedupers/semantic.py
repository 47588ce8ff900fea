"""Nearly the same meaning: the cosine of two rows' embeddings."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data import vectors
from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.kernels import Ids
from llmctl.data.twins import Pairs
from llmctl.rag.embedders.base import Embedder


class SemanticDeduper(Deduper):
    """Cosine of the embeddings at least `threshold`; every compared pair is measured exactly."""

    order: ClassVar[int] = 3
    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "rag", "torch": "rag"}
    measure: ClassVar[str] = "cosine of a dropped row and its twin"

    threshold: float = Field(
        0.95, gt=0, le=1, description="Least cosine of a dropped row and its twin."
    )
    embedder: Embedder = Field(
        default_factory=lambda: Embedder.of("sentence_transformers"),
        description="How rows become vectors.",
    )
    cells: int = Field(
        0,
        ge=0,
        le=65536,
        description="Groups by k-means inside which rows are compared; 0 compares every row with "
        "every kept one. About the square root of the rows is fast.",
    )
    probes: int = Field(
        3, ge=1, le=64, description="Nearest cells that a row is compared in, when `cells` > 0."
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"cosine >= {self.threshold:g}"

    def cells_of(self, own: vectors.Vectors, seed: int) -> Ids:
        """The cells that each vector is compared in, shape (vectors, probes)."""
        if not self.cells or not len(own):
            return np.zeros((len(own), 1), np.int64)
        return vectors.nearest(own, vectors.centres(own, self.cells, seed), self.probes)[0]

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """Embed what is alive; drop rows that a preferred, kept row is near to."""
        ids = np.flatnonzero(alive)
        own = vectors.embedded(self.embedder, rows.texts, ids, rows.scratch, rows.file("vectors"))
        fixed = int(np.searchsorted(ids, rows.fixed))
        cells = self.cells_of(own, rows.seed)
        local, cosine = vectors.leaders(own, fixed, self.threshold, cells)
        twin, score = np.full(len(rows.texts), -1, np.int64), np.zeros(len(rows.texts))
        gone = np.flatnonzero(local >= 0)
        twin[ids[gone]], score[ids[gone]] = ids[local[gone]], np.minimum(cosine[gone], 1.0)
        pairs = Pairs(ids[local[gone]], ids[gone], score[ids[gone]])
        return Found(twin, score, pairs, pairs.score)
