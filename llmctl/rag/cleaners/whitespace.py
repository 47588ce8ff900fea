"""Trailing spaces, odd spaces and runs of blank lines; indentation stays."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner

ODD = re.compile("[\u00a0\u2000-\u200a\u202f\u205f\u3000]")


class WhitespaceCleaner(Cleaner):
    """Blank lines in a row are cut to `max_blank_lines`."""

    max_blank_lines: int = Field(
        1, ge=0, le=10, description="Blank lines that may follow each other."
    )

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """Form feeds stay where they are, they number the pages."""
        pages = [self._page(page) for page in text.split("\f")]
        done = "\f".join(pages)
        return Cleaned(done, len(text) - len(done))

    def _page(self, text: str) -> str:
        text = re.sub("\r\n?|\x0b|\x85|\u2028|\u2029", "\n", text)
        text = re.sub(r"[ \t]+(?=\n|\Z)", "", ODD.sub(" ", text))
        limit = self.max_blank_lines + 1
        return re.sub("\n" * limit + "\n+", "\n" * limit, text).strip("\n")
