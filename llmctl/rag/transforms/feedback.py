"""Pseudo-relevance feedback, with no model: the best chunks of a first search say what to look for.

Words: the relevance model RM3 (Abdul-Jaleel et al. 2004) with idf; vectors: Rocchio (1971).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

from pydantic import Field

from llmctl.rag.transforms.base import Asked, Query, Tools, Transform

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.keywords import Index


class FeedbackTransform(Transform):
    """The first search costs as much again as the second."""

    chunks: int = Field(5, ge=1, le=100, description="Best chunks of the first search.")
    terms: int = Field(20, ge=0, le=200, description="Words that are taken from them; 0 is none.")
    words: float = Field(
        0.3, ge=0, le=1, description="Share of the new words beside those of the question."
    )
    vectors: float = Field(
        0.5, ge=0, le=10, description="Weight of the chunks' mean vector beside the question's."
    )

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """The same queries with more words and moved vectors."""
        ids, scores, vectors = tools.first(asked)
        if not ids:
            return asked
        ids, scores, vectors = ids[: self.chunks], scores[: self.chunks], vectors[: self.chunks]
        model = self._model(tools.index(), ids, scores)
        return replace(
            asked,
            queries=tuple(self._moved(query, model, vectors, tools) for query in asked.queries),
        )

    def _moved(
        self, query: Query, model: dict[str, float], vectors: np.ndarray, tools: Tools
    ) -> Query:
        import numpy as np

        own = query.terms if query.terms is not None else tools.index().weights(query.text)
        total = sum(own.values()) or 1.0
        share = self.words if model else 0.0
        terms = defaultdict(float, {term: (1 - share) * w / total for term, w in own.items()})
        for term, weight in model.items():
            terms[term] += share * weight
        vector = query.vector if query.vector is not None else tools.embedder.query(query.text)
        if len(vectors):
            vector = vector + np.float32(self.vectors) * vectors.mean(axis=0)
            vector = vector / np.linalg.norm(vector)
        return replace(query, terms=dict(terms), vector=vector)

    def _model(self, index: Index, ids: list[str], scores: np.ndarray) -> dict[str, float]:
        """term -> weight, together 1: frequent in good chunks and rare elsewhere."""
        found: dict[str, float] = defaultdict(float)
        total = float(scores.sum()) or 1.0
        for key, score in zip(ids, scores, strict=True):
            row = index.row(key)
            counts = index.contents(row) if row is not None else {}
            length = sum(counts.values())
            for term, count in counts.items():
                found[term] += float(score) / total * count / length
        for term in found:
            found[term] *= index.idf(term)
        best = sorted(found.items(), key=lambda each: (-each[1], each[0]))[: self.terms]
        whole = sum(weight for _, weight in best)
        return {term: weight / whole for term, weight in best} if whole else {}
