"""Plain UTF-8 text; the title is the first line when it is short."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Reader, decoded


class TextReader(Reader):
    """The file's text as it is."""

    patterns: tuple[str, ...] = Field(
        ("*.txt", "*.text", "*.log"), min_length=1, description="File names that are plain text."
    )

    def read(self, path: Path) -> Parsed:
        """The whole file."""
        text = decoded(path.read_bytes())
        first = text.strip().splitlines()[0].strip() if text.strip() else ""
        return Parsed(text, first if len(first) <= 80 else "")
