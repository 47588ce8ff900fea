"""The same text again, up to spaces and letter case."""

from __future__ import annotations

from hashlib import blake2b
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl import ui
from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import composed, unpunctuated
from llmctl.data.kernels import GROUP, Ids, Words, cuts, mapped
from llmctl.data.texts import picked
from llmctl.data.twins import Pairs


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

    def _alike(self, rows: Rows, ids: Ids) -> Ids:
        """The rows whose letters occur in another row, too: only they can be equal to one."""
        folded = rows.folded(case=self.ignore_case)

        def letters(cut: tuple[int, int]) -> Words:
            return rows.kernel.letters(*folded.part(ids[cut[0] : cut[1]]))

        parts = mapped(letters, cuts(folded.sizes(ids), GROUP), rows.threads)
        number = np.concatenate([np.empty(0, np.uint64), *parts])
        order = np.argsort(number)
        same = np.diff(number[order]) == 0
        alike = (np.append(same, False) | np.append(False, same))[: len(ids)]
        return np.sort(ids[order[alike]])

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """The first row with a hash is kept."""
        ids = self._alike(rows, np.flatnonzero(alive))
        digests, known = bytearray(), dict[bytes, bytes]()
        with ui.progress("exact", len(ids)) as advance:
            tell = ui.in_steps(advance)
            for text in picked(rows.texts, ids):
                raw = blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
                if raw not in known:  # most repeats are the same bytes, which are folded once
                    folded = self.folded(text).encode("utf-8", "surrogatepass")
                    known[raw] = blake2b(folded, digest_size=16).digest()
                digests += known[raw]
                tell(1)
        high, low = np.frombuffer(digests, np.uint64).reshape(-1, 2).T
        order = np.lexsort((ids, low, high))
        new = np.append(True, (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0))[: len(ids)]
        place = np.maximum.accumulate(np.where(new, np.arange(len(ids)), 0))
        twin = np.full(len(rows.texts), -1, np.int64)
        twin[ids[order]] = np.where(new, -1, ids[order][place])
        twin[: rows.fixed] = -1
        y = np.flatnonzero(twin >= 0)
        return Found(twin, (twin >= 0).astype(float), Pairs(twin[y], y, np.ones(len(y))))
