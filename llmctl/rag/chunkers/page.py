"""One chunk per page: what stands between two form feeds."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.sentences import packed, sentences


class PageChunker(Chunker):
    """Pages; one longer than `max_chars` is cut at sentences, and no chunk has parts of two."""

    max_chars: int = Field(2000, ge=1, description="Longest chunk, in characters.")

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that do not overlap."""
        start = 0
        for page in text.split("\f"):
            end = start + len(page)
            yield from trimmed(text, packed(text, sentences(text, start, end), self.max_chars))
            start = end + 1
