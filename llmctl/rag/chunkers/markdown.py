"""One chunk per section: a heading and what stands under it."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.outline import outline
from llmctl.rag.sentences import packed, sentences


class MarkdownChunker(Chunker):
    """Sections; one longer than `max_chars` is cut at sentences, a bare heading joins the next."""

    max_chars: int = Field(1200, ge=1, description="Longest chunk, in characters.")
    level: int = Field(3, ge=1, le=6, description="Deepest heading that begins a chunk.")

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that do not overlap."""
        for start, end in self._sections(text):
            yield from trimmed(text, packed(text, sentences(text, start, end), self.max_chars))

    def _sections(self, text: str) -> Iterator[Span]:
        begin = 0
        headings = [each for each in outline(text) if each.level <= self.level]
        bodies = [0, *(each.end for each in headings)]
        ends = [*(each.start for each in headings), len(text)]
        for body, end in zip(bodies, ends, strict=True):
            # a heading with nothing under it joins the next section
            if text[body:end].strip() or end == len(text):
                yield begin, end
                begin = end
