"""Extractive: the sentences that are nearest to the question, in their own order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pydantic import Field

from llmctl.rag.compressors.base import Compressor, Span, pieces, within

if TYPE_CHECKING:
    from llmctl.engines.base import Session
    from llmctl.rag.embedders.base import Live


class SentencesCompressor(Compressor):
    """Cosine of each sentence with the question, by the store's own embedder."""

    min_score: float = Field(
        -1.0, ge=-1, le=1, description="Smallest cosine of a sentence that is kept."
    )

    def choose(
        self, question: str, texts: Sequence[str], embedder: Live, session: Session | None
    ) -> list[list[Span]]:
        """The best sentences until the budget is used."""
        spans = [(number, span) for number, text in enumerate(texts) for span in pieces(text)]
        if not spans:
            return [[] for _ in texts]
        vectors = embedder.texts([texts[number][a:b] for number, (a, b) in spans])
        scores = vectors @ embedder.query(question)
        order = sorted(range(len(spans)), key=lambda i: (-float(scores[i]), i))
        ranked = [spans[i] for i in order if scores[i] >= self.min_score]
        return within(texts, ranked, self.tokens)
