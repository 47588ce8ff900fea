"""Documents too short to say anything are dropped, with the reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner


class LengthCleaner(Cleaner):
    """Drops a document with fewer than `min_chars` characters that are not spaces."""

    min_chars: int = Field(20, ge=1, description="Shortest document, in characters without spaces.")

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """The text untouched, with a reason when it is too short."""
        size = sum(len(word) for word in text.split())
        if size >= self.min_chars:
            return Cleaned(text)
        return Cleaned(text, reason="too_short", detail=f"{size} < {self.min_chars} characters")
