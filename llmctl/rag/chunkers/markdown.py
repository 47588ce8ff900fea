"""One chunk per section: a heading and what stands under it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from llmctl.rag.chunkers.base import Chunker, Span, trimmed
from llmctl.rag.outline import outline
from llmctl.rag.sentences import packed, sentences


class MarkdownChunker(Chunker):
    """Sections; one longer than `max_chars` is cut at sentences, a bare heading joins the next."""

    max_chars: int = Field(1200, ge=1, description="Longest chunk, in characters.")
    level: int = Field(3, ge=1, le=6, description="Deepest heading that begins a chunk.")

    def split(self, text: str) -> Iterator[Span]:
        """Chunks that do not overlap."""
        for start, end in self._sections(text):
            yield from trimmed(text, packed(text, sentences(text, start, end), self.max_chars))

    def _sections(self, text: str) -> Iterator[Span]:
        begin = 0
        headings = [each.start for each in outline(text) if each.level <= self.level]
        for start, end in zip([0, *headings], [*headings, len(text)], strict=True):
            body = text[start:end].partition("\n")[2] if start in headings else text[start:end]
            if body.strip() or end == len(text):
                yield begin, end
                begin = end
