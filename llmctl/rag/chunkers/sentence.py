"""Whole sentences, as many as fit."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.sentences import packed, sentences


class SentenceChunker(Chunker):
    """Whole sentences, at most `max_chars` together; a longer sentence is cut at a space."""

    max_chars: int = Field(800, ge=1, description="Longest chunk, in characters.")

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that do not overlap."""
        yield from trimmed(text, packed(text, sentences(text), self.max_chars))
