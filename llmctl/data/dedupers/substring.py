"""Long passages that occur again: word for word, between rows and inside one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl import ui
from llmctl.data import kernels, passages
from llmctl.data.dedupers.base import Cut, Deduper, Found, Rows
from llmctl.data.kernels import Ids
from llmctl.data.passages import Wordings
from llmctl.data.texts import picked
from llmctl.data.twins import Pairs

TRIED = 8
"""Kept rows that a row's passages are looked for in, those with most of them first."""


class SubstringDeduper(Deduper):
    """The same `words` words in a row (after Lee et al. 2021, with windows for a suffix array)."""

    order: ClassVar[int] = 5
    measure: ClassVar[str] = "share of a dropped row that stands in its twin"

    words: int = Field(50, ge=5, le=10000, description="Words of the shortest passage.")
    action: Literal["drop", "cut"] = Field(
        "drop",
        description="drop: rows that consist of another row's passages; cut: all but the first "
        "occurrence of a passage is taken out of the text.",
    )
    share: float = Field(
        0.5, gt=0, le=1, description="Share of its words that stand in one kept row: dropped."
    )
    shortest: int = Field(
        20, ge=1, description="A row of fewer words after the cut is dropped, when `action: cut`."
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        what = f"share >= {self.share:g}" if self.action == "drop" else "cut"
        return f"{self.words} equal words, {what}"

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """Rows made of other rows' passages, or the passages to cut."""
        ids = np.flatnonzero(alive)
        with ui.progress("words", len(ids)) as advance:
            tell = ui.in_steps(advance)
            texts = (_told(text, tell) for text in picked(rows.texts, ids))
            wordings = Wordings.of(texts, kernels.shape(1), rows.file("words"))
        windows, count = wordings.windows(self.words, rows.file("windows"))
        fixed = int(np.searchsorted(ids, rows.fixed))
        if self.action == "cut":
            return self._cut(rows, ids, wordings, fixed, passages.repeats(windows, count))
        places, first = passages.repeats(windows, count)
        local, share = self._dropped(wordings, fixed, places, first)
        twin, score = np.full(len(rows.texts), -1, np.int64), np.zeros(len(rows.texts))
        gone = np.flatnonzero(local >= 0)
        twin[ids[gone]], score[ids[gone]] = ids[local[gone]], share[gone]
        pairs = Pairs(twin[ids[gone]], ids[gone], share[gone])
        return Found(twin, score, pairs, share[gone])

    def _dropped(
        self, wordings: Wordings, fixed: int, places: Ids, first: Ids
    ) -> tuple[Ids, NDArray[np.float64]]:
        """In order: a row is compared with the kept rows in which its passages stand first."""
        begin, rows = wordings.begin, len(wordings.begin) - 1
        twin, share = np.full(rows, -1, np.int64), np.zeros(rows)
        passage = np.unique(first, return_inverse=True)[1]
        owner = np.full(int(passage.max(initial=-1)) + 1, -1, np.int64)
        bounds = np.searchsorted(places, begin)
        for i in _shown(np.flatnonzero(np.diff(bounds)).tolist()):
            mine = passage[bounds[i] : bounds[i + 1]]
            owners, counts = np.unique(owner[mine], return_counts=True)
            size = int(begin[i + 1] - begin[i])
            tried = owners[np.argsort(-counts, kind="stable")]
            for other in tried[tried >= 0][:TRIED].tolist() if i >= fixed else ():
                theirs = passage[bounds[other] : bounds[other + 1]]
                inside = places[bounds[i] : bounds[i + 1]][np.isin(mine, theirs)]
                part = passages.covered(inside, self.words, int(begin[i]), int(begin[i + 1])) / size
                if part >= self.share and part > share[i]:
                    twin[i], share[i] = other, part
            if twin[i] < 0:
                owner[mine[owner[mine] < 0]] = i
        return twin, share

    def _cut(
        self, rows: Rows, ids: Ids, wordings: Wordings, fixed: int, found: tuple[Ids, Ids]
    ) -> Found:
        """Take out later occurrences until no passage is left that stands twice."""
        stay = np.arange(len(wordings.units))
        row_of = np.repeat(np.arange(len(ids)), np.diff(wordings.begin))
        source = np.full(len(wordings.units), -1, np.int64)  # the row where a cut word remains
        now, (places, first) = wordings, found
        while True:
            row = row_of[stay]
            apart = (row[places] != row[first]) | (places >= first + self.words)
            later = (places > first) & apart & (row[places] >= fixed)
            if not later.any():
                break
            gone = passages.union(places[later], self.words, len(stay))
            for at, origin in zip(places[later].tolist(), first[later].tolist(), strict=True):
                source[stay[at : at + self.words]] = row[origin]
            stay = stay[~gone]
            sizes = np.bincount(row_of[stay], minlength=len(ids))
            now = Wordings(
                np.asarray(wordings.units[stay]), np.concatenate([[0], np.cumsum(sizes)])
            )
            places, first = passages.repeats(*now.windows(self.words, None))
        return self._spans(rows, ids, wordings, source)

    def _spans(self, rows: Rows, ids: Ids, wordings: Wordings, source: Ids) -> Found:
        """Runs of cut words as byte spans of the texts; rows with too little left are dropped."""
        twin, score = np.full(len(rows.texts), -1, np.int64), np.zeros(len(rows.texts))
        cuts: dict[int, list[Cut]] = {}
        touched = np.unique(np.searchsorted(wordings.begin, np.flatnonzero(source >= 0), "right"))
        for i in (touched - 1).tolist():
            from_row = source[wordings.begin[i] : wordings.begin[i + 1]]
            gone, left = from_row >= 0, int((from_row < 0).sum())
            at = int(ids[i])
            origins, counts = np.unique(from_row[gone], return_counts=True)
            # a row that only repeats itself has no twin and is never dropped
            others = origins != i
            if left < self.shortest and others.any():
                twin[at] = ids[origins[others][counts[others].argmax()]]
                score[at] = gone.mean()
                continue
            text = rows.texts[at].encode("utf-8", "surrogatepass")
            _, starts, _ = kernels.units_of(np.frombuffer(text, np.uint8), kernels.shape(1))
            edges = np.flatnonzero(np.diff(np.concatenate([[0], gone.astype(int), [0]])))
            cuts[at] = [
                Cut(int(starts[a]), int(starts[b]) if b < len(starts) else len(text),
                    int(ids[from_row[a]]))
                for a, b in edges.reshape(-1, 2).tolist()
            ]  # fmt: skip
        y = np.flatnonzero(twin >= 0)
        return Found(twin, score, Pairs(twin[y], y, score[y]), score[y], cuts=cuts)


def _told(text: str, tell: Callable[[int], None]) -> bytes:
    """A text as bytes, counted."""
    tell(1)
    return text.encode("utf-8", "surrogatepass")


def _shown(rows: list[int]) -> Iterator[int]:
    """Rows with progress."""
    with ui.progress("passages", len(rows)) as advance:
        tell = ui.in_steps(advance)
        for row in rows:
            yield row
            tell(1)
