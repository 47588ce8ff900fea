"""Rows in other languages than those that are wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data.filters.base import Filter, Verdict, Within, parts_of
from llmctl.rag.cleaners.language import Code, LanguageCleaner


class LanguageFilter(Filter):
    """The language is told as the cleaner `language` of ingest does; an unknown one stays."""

    needs: ClassVar[dict[str, str]] = {"py3langid": "data"}

    allowed: tuple[Code, ...] = Field(
        min_length=1, description="Languages that are kept (ISO 639-1), such as en."
    )
    within: Within = Field("both", description="What has to be in one of them.")
    min_confidence: float = Field(
        0.8, ge=0, le=1, description="Below it the language counts as unknown."
    )
    min_words: int = Field(
        5, ge=1, description="Shorter texts are not looked at: too little to tell a language by."
    )

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""
        cleaner = LanguageCleaner(allowed=self.allowed, min_confidence=self.min_confidence)

        def judge(row: Mapping[str, Any]) -> Verdict:
            for part in parts_of(row, self.within):
                if len(part.split()) < self.min_words:
                    continue
                found = cleaner.clean(part)
                if found.reason:
                    return found.detail
            return None

        return judge
