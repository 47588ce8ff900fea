"""The same text again, up to spaces and letter case."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import composed, unpunctuated
from llmctl.data.kernels import GROUP, Ids, Plain, Words, cuts
from llmctl.data.texts import joined, picked
from llmctl.data.threads import mapped
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

    def _plain(self) -> Plain:
        """The same for ASCII, by byte."""
        table, gaps = np.arange(256, dtype=np.uint8), np.zeros(256, bool)
        for byte in range(128):
            letter = chr(byte)
            table[byte] = ord(letter.lower() if self.ignore_case else letter)
            gaps[byte] = (self.ignore_space and letter.isspace()) or (
                self.ignore_punctuation and unpunctuated(letter) == " "
            )
        table[gaps] = ord(" ")
        return Plain(table.tobytes(), gaps, self.ignore_space)

    def _digests(self, rows: Rows, ids: Ids) -> Words:
        """128 bits of each folded text, shape (ids, 2)."""
        foreign = np.intersect1d(rows.held.foreign(rows.threads), ids, assume_unique=True)
        folded = (self.folded(text) for text in picked(rows.held, foreign))
        beside = joined(
            (text.encode("utf-8", "surrogatepass") for text in folded), rows.file("exact")
        )
        source, plain = rows.held.with_beside(foreign, beside), self._plain()

        def work(cut: tuple[int, int]) -> Words:
            return rows.kernel.digests(*source.part(ids[cut[0] : cut[1]]), plain)

        parts = mapped(work, cuts(source.sizes(ids), GROUP), rows.threads, "exact")
        return np.concatenate([np.empty((0, 2), np.uint64), *parts])

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """The first row with a hash is kept."""
        ids = self._alike(rows, np.flatnonzero(alive))
        high, low = self._digests(rows, ids).T
        order = np.lexsort((ids, low, high))
        new = np.append(True, (np.diff(high[order]) != 0) | (np.diff(low[order]) != 0))[: len(ids)]
        place = np.maximum.accumulate(np.where(new, np.arange(len(ids)), 0))
        twin = np.full(len(rows.texts), -1, np.int64)
        twin[ids[order]] = np.where(new, -1, ids[order][place])
        twin[: rows.fixed] = -1
        y = np.flatnonzero(twin >= 0)
        return Found(twin, (twin >= 0).astype(float), Pairs(twin[y], y, np.ones(len(y))))
