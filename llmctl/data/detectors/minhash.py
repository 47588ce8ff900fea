"""Rows that are nearly a benchmark item as a whole: Jaccard similarity, by MinHash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import numpy as np
from pydantic import Field

from llmctl.data.dedupers.base import Rows
from llmctl.data.dedupers.minhash import MinhashDeduper
from llmctl.data.detectors.base import Action, Detector, Hits
from llmctl.data.kernels import Ids


class _Both(Sequence[str]):
    """Items, then rows, as one sequence."""

    def __init__(self, items: Sequence[str], texts: Sequence[str], ids: Ids) -> None:
        self._items, self._texts, self._ids = items, texts, ids

    def __len__(self) -> int:
        return len(self._items) + len(self._ids)

    def __getitem__(self, index: int) -> str:  # type: ignore[override]
        if index < len(self._items):
            return self._items[index]
        return self._texts[int(self._ids[index - len(self._items)])]


class MinhashDetector(Detector):
    """Jaccard similarity of a row's and an item's sets of neighbouring words."""

    action: Action = Field("drop", description="What happens to a row at `threshold`.")
    threshold: float = Field(0.6, gt=0, le=1, description="Least exact Jaccard similarity.")
    ngram: int = Field(5, ge=1, le=64, description="Words (or characters) in one shingle.")
    unit: Literal["words", "characters"] = Field("words", description="What a shingle is made of.")

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"jaccard >= {self.threshold:g}"

    def method(self) -> MinhashDeduper:
        """What compares."""
        return MinhashDeduper(threshold=self.threshold, ngram=self.ngram, unit=self.unit)

    def find(self, items: Sequence[str], rows: Rows, ids: Ids) -> Hits:
        """The most similar item of each row."""
        both = replace(rows, texts=_Both(items, rows.texts, ids), fixed=len(items), spill=None)
        found = self.method().find(both, np.ones(len(both.texts), bool))
        # a row may repeat an earlier row, which repeats an item: only items are asked for
        held = np.flatnonzero((found.twin >= 0) & (found.twin < len(items)))
        score = found.score[held]
        drop = np.full(len(held), self.action == "drop")
        return Hits(ids[held - len(items)], found.twin[held], score, drop)
