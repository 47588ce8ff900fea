"""Small chunks are embedded and found; the big chunk around each is what is handed on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from pydantic import Field, model_validator

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span


class SmallToBigChunker(Chunker):
    """A short text is found more surely, a long one answers better: this has both."""

    small: Chunker = Field(
        default_factory=lambda: Chunker.of({"kind": "sentence", "max_chars": 300}),
        description="Cuts each big chunk into the chunks that are embedded.",
    )
    big: Chunker = Field(
        default_factory=lambda: Chunker.of({"kind": "markdown", "max_chars": 2000}),
        description="Cuts the document into the parents that retrieval hands on.",
    )

    @model_validator(mode="after")
    def _two_levels(self) -> Self:
        if self.kind in (self.small.kind, self.big.kind):
            raise ValueError("`small` and `big` cannot be small_to_big themselves: two levels")
        return self

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """The small chunks."""
        for _, span in self.families(text, about):
            yield span

    def families(self, text: str, about: About = NOTHING) -> Iterator[tuple[Span, Span]]:
        """(big, small); what two overlapping parents share belongs to the first."""
        done = 0
        for parent in self.big.split(text, about):
            begin = max(parent[0], done)
            for start, end in self.small.split(text[begin : parent[1]], about):
                yield parent, (begin + start, begin + end)
            done = max(done, parent[1])

    @property
    def embeds(self) -> bool:
        """Whether one of the two does."""
        return self.small.embeds or self.big.embeds

    def models(self) -> dict[str, str]:
        """Those of both."""
        return {
            f"{name}.{key}": ref
            for name, part in (("small", self.small), ("big", self.big))
            for key, ref in part.models().items()
        }
