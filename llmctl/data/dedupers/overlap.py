"""Decontamination: rows that contain a large part of a held-out item, wherever it stands."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data import kernels
from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import encoded
from llmctl.data.kernels import Buffer, Ids
from llmctl.data.texts import picked
from llmctl.data.twins import Floats, Pairs

AT_ONCE = 20_000
"""Rows whose shingles are held in memory together."""


class OverlapDeduper(Deduper):
    """Share of a held-out item's word n-grams that a row contains, at least `coverage`."""

    order: ClassVar[int] = -1

    ngram: int = Field(8, ge=1, le=64, description="Words of an n-gram; a shorter item is one.")
    coverage: float = Field(
        0.5, gt=0, le=1, description="Share of the item's n-grams that a dropped row contains."
    )
    shortest: int = Field(
        4, ge=1, description="Items of fewer words are not searched: they occur everywhere."
    )
    symbols: bool = Field(
        False, description="Whether + - * / % = < > and the like count as words (maths, code)."
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"{self.ngram}-gram coverage >= {self.coverage:g}"

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """Search the held-out items in every other row; the best covered one is the twin."""
        twin, score = np.full(len(rows.texts), -1, np.int64), np.zeros(len(rows.texts))
        items = Buffer.of(encoded(t, case=True) for t in rows.texts[: rows.fixed])
        ids = np.flatnonzero(alive)
        ids = ids[ids >= rows.fixed]
        words = self._words(items)
        sizes = np.minimum(words, self.ngram)
        for first in range(0, len(ids) if rows.fixed else 0, AT_ONCE):
            part = ids[first : first + AT_ONCE]
            buffer = Buffer.of(encoded(text, case=True) for text in picked(rows.texts, part))
            # an item shorter than an n-gram is searched as a whole: its length is then the n
            for n in np.unique(sizes[words >= self.shortest]).tolist():
                chosen = np.flatnonzero((sizes == n) & (words >= self.shortest))
                row, item, covered = self._covered(items, chosen, buffer, n, rows)
                better = covered > score[part[row]]
                twin[part[row[better]]] = item[better]
                score[part[row[better]]] = covered[better]
        y = np.flatnonzero(twin >= 0)
        return Found(twin, score, Pairs(twin[y], y, score[y]))

    def _words(self, items: Buffer) -> Ids:
        if not len(items):
            return np.empty(0, np.int64)
        return kernels.shingles(items.data, items.offsets, self._shape(1))[2]

    def _shape(self, n: int) -> kernels.Shape:
        return kernels.shape(n, symbols=self.symbols)

    def _covered(
        self, items: Buffer, chosen: Ids, buffer: Buffer, n: int, rows: Rows
    ) -> tuple[Ids, Ids, Floats]:
        """(row, item, coverage): the best covered item of each row that has one."""
        use, threads, form = rows.kernel, rows.threads, self._shape(n)
        wanted, starts = kernels.shingle_sets(items, form, chosen, use, threads)
        has, begin = kernels.shingle_sets(buffer, form, np.arange(len(buffer)), use, threads)
        owner = np.repeat(chosen, np.diff(starts))
        order = np.argsort(wanted, kind="stable")
        wanted, owner = wanted[order], owner[order]
        left = np.searchsorted(wanted, has, "left")
        count = np.searchsorted(wanted, has, "right") - left
        hit = np.flatnonzero(count)
        ends = np.cumsum(count[hit])
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count[hit], count[hit])
        item = owner[np.repeat(left[hit], count[hit]) + within]
        row = np.repeat(np.searchsorted(begin, hit, "right") - 1, count[hit])
        keys, shared = np.unique(row * len(items) + item, return_counts=True)
        row, item = keys // len(items), keys % len(items)
        size = np.zeros(len(items), np.int64)
        size[chosen] = np.diff(starts)
        covered = shared / size[item]
        enough = covered >= self.coverage
        row, item, covered = row[enough], item[enough], covered[enough]
        best = np.lexsort((item, -covered, row))
        best = best[np.unique(row[best], return_index=True)[1]]
        return row[best], item[best], covered[best]
