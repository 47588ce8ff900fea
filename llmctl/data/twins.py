"""From signatures to decisions: candidates, verified pairs, and who is dropped against whom.

Candidates are linear in the size of a group: neighbours and the group's first row. Two orders are
tried: by content, so that clusters do not depend on the order of rows, and by preference, so that
the row to keep meets the whole group. A row is dropped only against a row that is itself kept; when
a later round drops that one, all decisions are taken again from all verified pairs, until the kept
rows have no verified pair left. Therefore a second run finds nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmctl import ui
from llmctl.data.kernels import Ids, Kernel, Words, allocated, mapped, narrow

Floats = NDArray[np.float64]
AT_ONCE = 1 << 14
"""Rows whose signatures are read together (8 MB)."""
BANDS_AT_ONCE = 5


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
) -> tuple[Words, Order]:
    """The key of each of the rows `ids` in each band, shape (bands, ids), and an order by all."""
    keys = allocated((bands, len(ids)), np.uint64, file)
    content = np.zeros(len(ids), np.uint64)

    def work(first: int) -> None:
        part = slice(first, first + AT_ONCE)
        keys[:, part], content[part] = use.bands(signature[ids[part]], bands, rows)

    mapped(work, list(range(0, len(ids), AT_ONCE)), threads)
    return keys, Order.by(content)


@dataclass(frozen=True)
class Order:
    """An order of rows: `place` of each row in it, and the row at each place."""

    place: Ids
    row: Ids

    @classmethod
    def by(cls, values: NDArray[Any]) -> Order:
        """By rising value, then by number."""
        row = narrow(np.argsort(values, kind="stable"), len(values))
        place = np.empty_like(row)
        place[row] = np.arange(len(row), dtype=row.dtype)
        return cls(place, row)


def candidates(
    keys: Words, members: Ids, orders: Sequence[Order | None], threads: int = 1
) -> list[Ids]:
    """Pairs of `members` in a band, as x * rows + y: neighbours by each order, and the first.

    None is the order of the rows' numbers.
    """
    total = keys.shape[1]

    def work(band: int) -> list[Ids]:
        h = keys[band] if len(members) == total else keys[band][members]
        by_key = np.argsort(h)
        same = np.diff(h[by_key]) == 0
        shared = np.append(same, False) | np.append(False, same)
        group = np.cumsum(np.append(True, ~same)[: len(h)])[shared]
        ids = members[by_key[shared]]
        return [_neighbours(group, ids, order, total) for order in orders]

    found = [np.empty(0, np.int64) for _ in orders]
    if len(members):
        with ui.progress("candidates", len(keys)) as advance:
            for first in range(0, len(keys), BANDS_AT_ONCE):
                bands = list(range(first, min(first + BANDS_AT_ONCE, len(keys))))
                made = zip(found, *mapped(work, bands, threads), strict=True)
                found = mapped(lambda parts: distinct(np.concatenate(parts)), list(made), threads)
                advance(len(bands))
    return found


def _neighbours(group: Ids, ids: Ids, order: Order | None, total: int) -> Ids:
    """Pairs of rows that share a group: neighbours by an order, and each with the first."""
    key = group * total + (ids if order is None else order.place[ids])
    key.sort()
    group, ids = key // total, key % total
    if order is not None:
        ids = order.row[ids].astype(np.int64)
    same = np.diff(group) == 0
    place = np.arange(len(ids))
    head = np.maximum.accumulate(np.where(np.append(True, ~same)[: len(ids)], place, 0))
    left, right, first = ids[:-1][same], ids[1:][same], ids[head[1:]][same]
    far = first != left
    x, y = np.append(left, first[far]), np.append(right, right[far])
    return distinct(np.minimum(x, y) * total + np.maximum(x, y))


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


def greedy(pairs: Pairs, rows: int, fixed: int) -> tuple[Ids, Floats]:
    """The kept twin of each row (-1: it is kept) and the score; a lower number is preferred.

    A fixed row (below `fixed`) is never dropped, and is named before other twins.
    """
    # only the rows that stand in a pair are decided on
    inside, place = np.unique(np.append(pairs.x, pairs.y), return_inverse=True)
    left, right = np.split(place, 2)
    order = np.lexsort((pairs.x, -pairs.score, pairs.x >= fixed, pairs.y))
    twin, score = array("q", [-1]) * len(inside), array("d", [0.0]) * len(inside)
    for first in range(0, len(order), 1 << 18):
        part = order[first : first + (1 << 18)]
        columns = (left[part].tolist(), right[part].tolist(), pairs.score[part].tolist())
        for x, y, s in zip(*columns, strict=True):  # by y: every x < y is already decided
            if twin[y] < 0 and twin[x] < 0:
                twin[y], score[y] = x, s
    local = np.frombuffer(twin, np.int64)
    gone = np.flatnonzero(local >= 0)
    twins, scores = np.full(rows, -1, np.int64), np.zeros(rows)
    twins[inside[gone]] = inside[local[gone]]
    scores[inside[gone]] = np.frombuffer(score, np.float64)[gone]
    return twins, scores


def resolve(
    keys: Words, order: Order, scores: Scores, fixed: int, threshold: float, threads: int = 1
) -> tuple[Ids, Floats, Pairs]:
    """The kept twin and score of each row, and the pairs that make the clusters."""
    rows = keys.shape[1]
    shared, known = narrow(np.arange(rows), rows), np.empty(0, np.int64)
    twin, score = np.full(rows, -1, np.int64), np.zeros(rows)
    clusters: Pairs | None = None
    while True:
        members = shared[twin[shared] < 0]
        by_content, by_rank = candidates(keys, members, (order, None), threads)
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
        twin, score = greedy(Pairs(known // rows, known % rows, scores.of(known)), rows, fixed)


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
