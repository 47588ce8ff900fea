"""A stream of rows: counted whole, and a part of it kept for the measures that read words."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from random import Random

from llmctl.exploration.views import View

JUDGED = 8
"""Best, and worst, rows that are kept."""


class Sample:
    """Counts of every row, and `size` rows drawn from all alike (Vitter 1985, algorithm R)."""

    def __init__(self, size: int, seed: int) -> None:
        self.size = size
        self.views: list[View] = []
        self.rows = Counter[str]()
        """Split -> rows."""
        self.sources = Counter[str]()
        self.equal_rows = 0
        """Rows that repeat an earlier one; case and white space do not count."""
        self.equal_instructions = 0
        """Rows whose instruction stands before them in the same split."""
        self.leaked = Counter[str]()
        """Held-out split -> rows whose instruction stands in train."""
        self.scores = array("d")
        self._judged: list[View] = []
        self._wholes = set[bytes]()
        self._asked: dict[bytes, str] = {}
        self._random = Random(seed)

    def take(self, view: View) -> None:
        """Count a row, and keep it or not."""
        self.rows[view.split] += 1
        if view.source:
            self.sources[view.source] += 1
        whole = folded(view.whole)
        self.equal_rows += whole in self._wholes
        self._wholes.add(whole)
        if view.instruction:
            asked = folded(view.instruction)
            first = self._asked.get(asked)
            self.equal_instructions += first == view.split
            self.leaked[view.split] += first == "train" != view.split
            self._asked.setdefault(asked, view.split)
        if view.score is not None:
            self.scores.append(view.score)
            self._judged.append(view)
            if len(self._judged) > 100 * JUDGED:
                self._judged = [*self.worst, *self.best]
        seen = self.rows.total()
        if seen <= self.size:
            self.views.append(view)
        elif (place := self._random.randrange(seen)) < self.size:
            self.views[place] = view

    @property
    def worst(self) -> list[View]:
        """Rows with the lowest scores."""
        return sorted(self._judged, key=_score)[:JUDGED]

    @property
    def best(self) -> list[View]:
        """Rows with the highest scores; none of the worst ones."""
        return sorted(self._judged, key=_score)[JUDGED:][-JUDGED:]


def _score(view: View) -> tuple[float, str]:
    return view.score or 0.0, view.id


def folded(text: str) -> bytes:
    """A digest that is equal for texts that differ in case or white space only."""
    plain = " ".join(text.casefold().split())
    return hashlib.blake2b(plain.encode("utf-8", "surrogatepass"), digest_size=12).digest()
