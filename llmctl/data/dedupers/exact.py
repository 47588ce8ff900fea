"""The same text again, up to spaces and letter case."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import SEPARATORS, composed, unpunctuated
from llmctl.data.kernels import Ids
from llmctl.data.texts import picked
from llmctl.data.twins import Pairs

_REST = bytes(range(0x30)) + b":;<=>?@[\\]^`{|}~\x7f"
"""ASCII bytes that are neither letters nor digits."""


def _letters(text: str) -> bytes:
    """ASCII letters, digits and all that is not ASCII, with no case: a rough, quick fold."""
    if not text.isascii():
        text = composed("".join(text.split()), case=True)
        text = "".join(text.translate(SEPARATORS).split())
    return text.encode("utf-8", "surrogatepass").lower().translate(None, _REST)


class ExactDeduper(Deduper):
    """Equal 128-bit hash of the folded text; canonically equal Unicode is always equal."""

    same: ClassVar[bool] = True

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

    def _alike(self, texts: Sequence[str], ids: Ids) -> Ids:
        """The rows whose letters occur in another row, too: only they can be equal to one."""
        if not (self.ignore_space and self.ignore_case):
            return ids
        hashes = np.fromiter((hash(_letters(t)) for t in picked(texts, ids)), np.int64, len(ids))
        _, group, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        return ids[counts[group] > 1]

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """The first row with a hash is kept."""
        ids = self._alike(rows.texts, np.flatnonzero(alive))
        digests = bytearray()
        for text in picked(rows.texts, ids):
            folded = self.folded(text).encode("utf-8", "surrogatepass")
            digests += blake2b(folded, digest_size=16).digest()
        high, low = np.frombuffer(digests, np.uint64).reshape(-1, 2).T
        order = np.lexsort((ids, low, high))
        new = np.append(True, (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0))[: len(ids)]
        place = np.maximum.accumulate(np.where(new, np.arange(len(ids)), 0))
        twin = np.full(len(rows.texts), -1, np.int64)
        twin[ids[order]] = np.where(new, -1, ids[order][place])
        twin[: rows.fixed] = -1
        y = np.flatnonzero(twin >= 0)
        return Found(twin, (twin >= 0).astype(float), Pairs(twin[y], y, np.ones(len(y))))
