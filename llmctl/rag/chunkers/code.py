"""Source code, cut between definitions: functions and classes stay whole while they fit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Literal

from pydantic import Field

from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span, trimmed
from llmctl.rag.code import braces, indents, python
from llmctl.rag.packing import between, pack
from llmctl.rag.sentences import cut_at_spaces

BRACES = {
    ".c", ".h", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".cs", ".java", ".js", ".jsx", ".mjs", ".ts",
    ".tsx", ".go", ".rs", ".kt", ".kts", ".swift", ".scala", ".php", ".css", ".scss", ".dart",
    ".m", ".mm", ".proto", ".groovy", ".zig",
}  # fmt: skip
"""Endings of the languages whose blocks stand in braces."""


class CodeChunker(Chunker):
    """Outer definitions first, then members, then statements, then lines."""

    max_chars: int = Field(1500, ge=1, description="Longest chunk, in characters.")
    language: Literal["auto", "python", "braces", "indent"] = Field(
        "auto",
        description="How the code is nested: by Python's grammar, by braces, or by indentation; "
        "auto asks the file's name.",
    )

    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """Chunks that do not overlap."""

        def fits(start: int, end: int) -> bool:
            return end - start <= self.max_chars

        def hard(start: int, end: int) -> Iterator[Span]:
            return cut_at_spaces(text, start, end, self.max_chars)

        levels = [between(places) for places in self._levels(text, about.uri)]
        yield from trimmed(text, pack((0, len(text)), levels, fits, hard))

    def _levels(self, text: str, uri: str) -> list[list[int]]:
        ending = PurePosixPath(uri).suffix.lower()
        found = self.language
        if found == "auto":
            is_python = ending in (".py", ".pyi")
            found = "python" if is_python else "braces" if ending in BRACES else "indent"
        if found == "braces":
            return braces(text, lifetimes=ending == ".rs")
        return (python(text) if found == "python" else None) or indents(text)
