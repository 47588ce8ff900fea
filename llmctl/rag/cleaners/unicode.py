"""One form for each letter; invisible and control characters go."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner

# controls but tab, line feed and form feed (ends a page); zero-width spaces, soft hyphen, BOM.
# The joiners U+200C and U+200D stay: Persian, Hindi and emoji need them.
UNSEEN = re.compile(
    "[\x00-\x08\x0b\x0e-\x1f\x7f-\x84\x86-\x9f\u00ad\u200b\u2060\ufeff\ufffe\uffff]"
)


class UnicodeCleaner(Cleaner):
    """Normalises composed letters, repairs wrong decoding, and removes what cannot be seen."""

    needs: ClassVar[dict[str, str]] = {"ftfy": "rag"}

    form: Literal["NFC", "NFKC"] = Field(
        "NFC",
        description="NFC joins letter and accent; NFKC also replaces ligatures and wide forms.",
    )
    repair: bool = Field(
        True,
        description="Repair text that was read in a wrong encoding once: \u00c3\u00bc was \u00fc.",
    )

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """`removed` counts the invisible characters and what normalising shortened."""
        counts: dict[str, int] = {}
        done = UNSEEN.sub("", text)
        if self.repair and not done.isascii():
            done, repaired = _repaired(done)
            counts = {"repaired_lines": repaired} if repaired else {}
        done = unicodedata.normalize(self.form, UNSEEN.sub("", done))
        return Cleaned(done, max(len(text) - len(done), 0), counts=counts)


def _repaired(text: str) -> tuple[str, int]:
    """Lines in the encoding that they were written in, and how many were not.

    ftfy changes only what cannot be meant. A line is repaired until nothing changes, and each on
    its own, so that a form feed or one odd line does not decide about others.
    """
    import ftfy

    parts = re.split("([\n\f])", text)
    count = 0
    for number in range(0, len(parts), 2):  # what stands between are the line ends
        before = line = parts[number]
        for _ in range(4):
            fixed = UNSEEN.sub("", ftfy.fix_encoding(line)).replace("\f", " ").replace("\n", " ")
            if fixed == line:
                break
            line = fixed
        if line != before:
            parts[number] = line
            count += 1
    return "".join(parts), count
