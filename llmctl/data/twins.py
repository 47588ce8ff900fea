"""From signatures to decisions: candidates, verified pairs, and who is dropped against whom.

Candidates are linear in the size of a group: neighbours and the group's first row. Two orders are
tried: by content, so that clusters do not depend on the order of rows, and by preference, so that
the row to keep meets the whole group. A row is dropped only against a row that is itself kept; when
a later round drops that one, all decisions are taken again from all verified pairs, until the kept
rows have no verified pair left. Therefore a second run finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmctl.data.kernels import Floats, Ids, Kernel, Words, allocated, narrow
from llmctl.data.threads import mapped

AT_ONCE = 1 << 14
"""Rows whose signatures are read together (8 MB)."""
BANDS_AT_ONCE = 5
"""Whose pairs a thread holds before they are put to the others."""


@dataclass(frozen=True)
class Pairs:
    """Pairs of rows, x < y, with their exact similarity."""

    x: Ids
    y: Ids
    score: Floats


def band_keys(
    signature: NDArray[np.uint32],
    ids: Ids,
    bands: int,
    rows: int,
    use: Kernel,
    threads: int = 1,
    file: Path | None = None,
) -> tuple[Words, Ids]:
    """The key of each of the rows `ids` in each band, shape (bands, ids); their places by all."""
    keys = allocated((bands, len(ids)), np.uint64, file)
    content = np.zeros(len(ids), np.uint64)

    def work(first: int) -> None:
        part = slice(first, first + AT_ONCE)
        keys[:, part], content[part] = use.bands(signature[ids[part]], bands, rows)

    mapped(work, list(range(0, len(ids), AT_ONCE)), threads)
    return keys, places(content)


def places(values: NDArray[Any]) -> Ids:
    """The place of each value in their rising order; equal ones by number."""
    row = np.argsort(values)  # in half the time of a stable sort
    same = np.diff(values[row]) == 0
    if same.any():
        run = np.cumsum(np.append(True, ~same))
        row = row[np.argsort(run * len(row) + row)]
    row = narrow(row, len(values))
    place = np.empty_like(row)
    place[row] = np.arange(len(row), dtype=row.dtype)
    return place


def candidates(
    keys: Words, members: Ids, place: Ids, use: Kernel, threads: int = 1
) -> tuple[Ids, Ids]:
    """Pairs of `members` in a band, as x * rows + y: neighbours by an order, and the first.

    Once by `place`, the rows' places in an order, and once by their numbers.
    """

    found, lock = [np.empty(0, np.int64)] * 2, Lock()

    def work(bands: Ids) -> None:
        made = []
        for band in bands.tolist():
            key = keys[band] if len(members) == len(place) else keys[band][members]
            made.append(use.neighbours(np.asarray(key), members, place))
        each = [distinct(np.concatenate(parts)) for parts in zip(*made, strict=True)]
        with lock:
            for i in range(2):
                found[i] = distinct(np.concatenate([found[i], each[i]]))

    if len(members):
        parts = -(-len(keys) // (BANDS_AT_ONCE * threads)) * threads  # as many for each thread
        split = np.array_split(np.arange(len(keys)), min(parts, len(keys)))
        mapped(work, split, threads, "candidates")
    return found[0], found[1]


def distinct(values: Ids) -> Ids:
    """Sorted, each once; faster than np.unique, which hashes."""
    values = np.sort(values)
    new: Ids = values[np.append(True, values[1:] != values[:-1])[: len(values)]]
    return new


class Scores:
    """Similarities of pairs, each computed once."""

    def __init__(self, rows: int, measure: Callable[[Ids, Ids], Floats]) -> None:
        self.rows, self._measure = rows, measure
        self._keys, self._scores = np.empty(0, np.int64), np.empty(0)

    def of(self, keys: Ids) -> Floats:
        """The similarity of each pair x * rows + y."""
        place = np.searchsorted(self._keys, keys)
        new = keys[np.append(self._keys, -1)[place] != keys]
        if len(new):
            scores = self._measure(new // self.rows, new % self.rows)
            merged = np.append(self._keys, new)
            order = np.argsort(merged)
            self._keys, self._scores = merged[order], np.append(self._scores, scores)[order]
        return self._scores[np.searchsorted(self._keys, keys)] if len(keys) else np.empty(0)

    def pairs(self) -> Pairs:
        """Everything that was measured."""
        return Pairs(self._keys // self.rows, self._keys % self.rows, self._scores)


def greedy(pairs: Pairs, rows: int, fixed: int, use: Kernel) -> tuple[Ids, Floats]:
    """The kept twin of each row (-1: it is kept) and the score; a lower number is preferred.

    A fixed row (below `fixed`) is never dropped, and is named before other twins.
    """
    order = np.argsort(pairs.y * rows + pairs.x)  # by y: every x < y is already decided
    return use.greedy(pairs.x[order], pairs.y[order], pairs.score[order], rows, fixed)


def resolve(
    keys: Words,
    place: Ids,
    scores: Scores,
    fixed: int,
    threshold: float,
    use: Kernel,
    threads: int = 1,
) -> tuple[Ids, Floats, Pairs]:
    """The kept twin and score of each row, and the pairs that make the clusters.

    `place` is that of each row by content.
    """
    rows = keys.shape[1]
    shared, known = narrow(np.arange(rows), rows), np.empty(0, np.int64)
    twin, score = np.full(rows, -1, np.int64), np.zeros(rows)
    clusters: Pairs | None = None
    while True:
        members = shared[twin[shared] < 0]
        by_content, by_rank = candidates(keys, members, place, use, threads)
        if clusters is None:
            shared = _members(by_content, rows)  # the others share no band with any row
        by_content = _near(by_content, scores, fixed, threshold)
        by_rank = _near(by_rank, scores, fixed, threshold)
        if clusters is None:
            clusters = Pairs(by_content // rows, by_content % rows, scores.of(by_content))
        grown = distinct(np.concatenate([known, by_content, by_rank]))
        if len(grown) == len(known):
            return twin, score, clusters
        known = grown
        twin, score = greedy(Pairs(known // rows, known % rows, scores.of(known)), rows, fixed, use)


def _members(pairs: Ids, rows: int) -> Ids:
    """The rows that stand in a pair."""
    inside = np.zeros(rows, bool)
    inside[pairs // rows] = inside[pairs % rows] = True
    return narrow(np.flatnonzero(inside), rows)


def _near(keys: Ids, scores: Scores, fixed: int, threshold: float) -> Ids:
    keys = keys[keys % scores.rows >= fixed]  # two fixed rows are nobody's business
    return keys[scores.of(keys) >= threshold]


def components(rows: int, x: Ids, y: Ids) -> Ids:
    """The smallest row of each row's connected component.

    Every root that has a smaller neighbour is hung below it, then paths are cut short.
    """
    parent = np.arange(rows)
    while len(x):
        np.minimum.at(parent, np.maximum(x, y), np.minimum(x, y))
        while True:
            above = parent[parent]
            if np.array_equal(above, parent):
                break
            parent = above
        x, y = parent[x], parent[y]
        apart = x != y
        x, y = x[apart], y[apart]
    return parent
