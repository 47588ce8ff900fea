"""Running titles and page numbers: lines that come back at the edges of many pages."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner


class HeadersFootersCleaner(Cleaner):
    """Pages end at form feeds; numbers are folded, so that `Page 3` and `Page 4` are the same."""

    lines: int = Field(
        4,
        ge=1,
        le=20,
        description="Lines at the top and at the bottom that are compared, blank ones counted.",
    )
    share: float = Field(
        0.5, gt=0, le=1, description="Share of the pages on which a line must come back."
    )
    min_pages: int = Field(3, ge=2, description="With fewer pages nothing is compared.")

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """`counts` tells how many lines went; a blank line stays in the place of each."""
        pages = [page.split("\n") for page in text.split("\f")]
        if len(pages) < self.min_pages:
            return Cleaned(text)
        count = 0
        for edge in (slice(None, self.lines), slice(-self.lines, None)):
            forms = [{_folded(line) for line in page[edge]} for page in pages]
            often = Counter(form for page in forms for form in page if form)
            wanted = max(self.share * len(pages), 2)
            repeated = {form for form, number in often.items() if number >= wanted}
            for page in pages:
                kept = ["" if _folded(line) in repeated else line for line in page[edge]]
                count += sum(a != b for a, b in zip(kept, page[edge], strict=True))
                page[edge] = kept
        done = "\f".join("\n".join(page) for page in pages)
        return Cleaned(done, len(text) - len(done), counts={"lines": count} if count else {})


def _folded(line: str) -> str:
    return re.sub(r"\d+", "0", " ".join(line.casefold().split()))
