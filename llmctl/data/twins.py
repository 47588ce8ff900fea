"""From signatures to decisions: candidates, verified pairs, and who is dropped against whom.

Candidates are linear in the size of a group: neighbours and the group's first row. Two orders are
tried: by content, so that clusters do not depend on the order of rows, and by preference, so that
the row to keep meets the whole group. A row is dropped only against a row that is itself kept; when
a later round drops that one, all decisions are taken again from all verified pairs, until the kept
rows have no verified pair left. Therefore a second run finds nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from llmctl.data.kernels import MULT, Ids, Words, allocated, mapped, mix

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
    threads: int = 1,
    file: Path | None = None,
) -> tuple[Words, Words]:
    """The key of each of the rows `ids` in each band, shape (bands, ids), and a hash of all."""
    keys = allocated((bands, len(ids)), np.uint64, file)
    content = np.zeros(len(ids), np.uint64)

    def work(first: int) -> None:
        part = slice(first, first + AT_ONCE)
        columns = signature[ids[part]].T.astype(np.uint64)
        whole = np.zeros(columns.shape[1], np.uint64)
        for band in range(bands):
            h = np.full(columns.shape[1], 0x2545F4914F6CDD1D, np.uint64)
            for column in range(band * rows, (band + 1) * rows):
                h = mix((h ^ columns[column]) * np.uint64(MULT))
            keys[band, part] = h
            whole = mix(whole * np.uint64(MULT) ^ h)
        content[part] = whole

    mapped(work, list(range(0, len(ids), AT_ONCE)), threads)
    return keys, content


def candidates(keys: Words, members: Ids, order: NDArray[Any], threads: int = 1) -> Ids:
    """Pairs of `members` in a band, as x * rows + y: neighbours by `order`, and the first."""
    total = keys.shape[1]

    def work(band: int) -> Ids:
        h = keys[band][members]
        by_key = np.argsort(h)
        same = np.diff(h[by_key]) == 0
        shared = np.append(same, False) | np.append(False, same)
        group, ids = h[by_key][shared], members[by_key[shared]]
        if not len(ids):
            return np.empty(0, np.int64)
        inner = np.lexsort((ids, order[ids], group))
        group, ids = group[inner], ids[inner]
        same = np.diff(group) == 0
        place = np.arange(len(ids))
        head = np.maximum.accumulate(np.where(np.append(True, ~same), place, 0))
        left, right, first = ids[:-1][same], ids[1:][same], ids[head[1:]][same]
        far = first != left
        x, y = np.append(left, first[far]), np.append(right, right[far])
        return distinct(np.minimum(x, y) * total + np.maximum(x, y))

    found = np.empty(0, np.int64)
    if len(members):
        for first in range(0, len(keys), BANDS_AT_ONCE):
            bands = list(range(first, min(first + BANDS_AT_ONCE, len(keys))))
            found = distinct(np.concatenate([found, *mapped(work, bands, threads)]))
    return found


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
    twin, score = array("q", [-1]) * rows, array("d", [0.0]) * rows
    order = np.lexsort((pairs.x, -pairs.score, pairs.x >= fixed, pairs.y))
    for first in range(0, len(order), 1 << 20):
        part = order[first : first + (1 << 20)]
        columns = (pairs.x[part].tolist(), pairs.y[part].tolist(), pairs.score[part].tolist())
        for x, y, s in zip(*columns, strict=True):  # by y: every x < y is already decided
            if twin[y] < 0 and twin[x] < 0:
                twin[y], score[y] = x, s
    return np.array(twin, np.int64), np.array(score)


def resolve(
    keys: Words, content: Words, scores: Scores, fixed: int, threshold: float, threads: int = 1
) -> tuple[Ids, Floats, Pairs]:
    """The kept twin and score of each row, and the pairs that make the clusters."""
    rows = keys.shape[1]
    rank, known = np.arange(rows), np.empty(0, np.int64)
    twin, score = np.full(rows, -1, np.int64), np.zeros(rows)
    clusters: Pairs | None = None
    while True:
        members = np.flatnonzero(twin < 0)
        by_content = _near(candidates(keys, members, content, threads), scores, fixed, threshold)
        by_rank = _near(candidates(keys, members, rank, threads), scores, fixed, threshold)
        if clusters is None:
            clusters = Pairs(by_content // rows, by_content % rows, scores.of(by_content))
        grown = distinct(np.concatenate([known, by_content, by_rank]))
        if len(grown) == len(known):
            return twin, score, clusters
        known = grown
        twin, score = greedy(Pairs(known // rows, known % rows, scores.of(known)), rows, fixed)


def _near(keys: Ids, scores: Scores, fixed: int, threshold: float) -> Ids:
    keys = keys[keys % scores.rows >= fixed]  # two fixed rows are nobody's business
    return keys[scores.of(keys) >= threshold]


def components(rows: int, x: Ids, y: Ids) -> Ids:
    """The smallest row of each row's connected component."""
    parent = array("q", range(rows))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        a, b = root(a), root(b)
        if a != b:
            parent[max(a, b)] = min(a, b)
    for i in range(rows):
        parent[i] = root(i)
    return np.array(parent, np.int64)
