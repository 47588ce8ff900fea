"""The same text again, up to spaces and letter case."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import composed, unpunctuated
from llmctl.data.twins import Pairs


class ExactDeduper(Deduper):
    """Equal 128-bit hash of the folded text; canonically equal Unicode is always equal."""

    ignore_case: bool = Field(True, description="Whether `Paris` and `PARIS` are the same.")
    ignore_space: bool = Field(
        True, description="Whether runs of spaces and line ends count as one space."
    )
    ignore_punctuation: bool = Field(
        False, description="Whether punctuation and symbols are left out (`2+3` and `2-3`: same)."
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return "exact"

    def folded(self, text: str) -> str:
        """The text as it is compared."""
        text = composed(text, case=self.ignore_case)
        if self.ignore_punctuation:
            text = unpunctuated(text)
        return " ".join(text.split()) if self.ignore_space else text

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """One pass: the first row with a hash is kept."""
        first: dict[bytes, int] = {}
        twin = np.full(len(rows.texts), -1, np.int64)
        for i in np.flatnonzero(alive).tolist():
            folded = self.folded(rows.texts[i]).encode("utf-8", "surrogatepass")
            kept = first.setdefault(blake2b(folded, digest_size=16).digest(), i)
            if kept != i and i >= rows.fixed:
                twin[i] = kept
        y = np.flatnonzero(twin >= 0)
        return Found(twin, (twin >= 0).astype(float), Pairs(twin[y], y, np.ones(len(y))))
