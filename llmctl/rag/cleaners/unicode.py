"""One form for each letter; invisible and control characters go."""

from __future__ import annotations

import re
import unicodedata
from typing import Literal

from pydantic import Field

from llmctl.rag.cleaners.base import Cleaned, Cleaner

# controls but tab, line feed and form feed (ends a page); zero-width spaces, soft hyphen, BOM.
# The joiners U+200C and U+200D stay: Persian, Hindi and emoji need them.
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff]"
)


class UnicodeCleaner(Cleaner):
    """Normalises composed letters and removes what cannot be seen."""

    form: Literal["NFC", "NFKC"] = Field(
        "NFC",
        description="NFC joins letter and accent; NFKC also replaces ligatures and wide forms.",
    )

    def clean(self, text: str) -> Cleaned:
        """`removed` counts the invisible characters and what normalising shortened."""
        seen = unicodedata.normalize(self.form, UNSEEN.sub("", text))
        return Cleaned(seen, max(len(text) - len(seen), 0))
