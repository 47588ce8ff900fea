"""Cuts where the meaning changes: between neighbouring sentences whose vectors are far apart."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.sentences import packed, sentences


class SemanticChunker(Chunker):
    """The recipe's embedder reads each sentence with its neighbours; the largest steps are cuts."""

    percentile: float = Field(
        90,
        ge=0,
        lt=100,
        description="A cut is made where the distance of two neighbours is greater than this "
        "percentage of the distances in the document.",
    )
    neighbours: int = Field(
        1, ge=0, le=5, description="Sentences on either side that are embedded with a sentence."
    )
    min_chars: int = Field(150, ge=1, description="A shorter chunk is not cut off.")
    max_chars: int = Field(1200, ge=1, description="Longest chunk, in characters.")

    @property
    def embeds(self) -> bool:
        """Sentences are embedded."""
        return True

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that do not overlap."""
        spans = [span for span in sentences(text) if text[span[0] : span[1]].strip()]
        if not spans:
            return
        begin = 0
        ends = [start for start, _ in spans[1:]] + [len(text)]
        for end, cut in zip(ends, [*self._cuts(text, spans, about), True], strict=True):
            if end == len(text) or (cut and end - begin >= self.min_chars):
                parts = packed(text, sentences(text, begin, end), self.max_chars)
                yield from trimmed(text, parts)
                begin = end

    def _cuts(self, text: str, spans: list[Span], about: About) -> list[bool]:
        """Whether the meaning changes after each sentence but the last."""
        import numpy as np

        if len(spans) < 2:
            return []
        if about.embed is None:
            raise TypeError("the semantic chunker was not given an embedder")
        reach = self.neighbours
        around = [
            (spans[max(0, n - reach)][0], spans[min(len(spans) - 1, n + reach)][1])
            for n in range(len(spans))
        ]
        # an embedder reads a few hundred words; what a giant sentence says later is not needed
        vectors = about.embed([text[start:end][:4000] for start, end in around])
        steps = np.round(1 - np.einsum("nd,nd->n", vectors[:-1], vectors[1:]), 6)
        found: list[bool] = (steps > np.percentile(steps, self.percentile)).tolist()
        return found
