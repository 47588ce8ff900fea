"""Phrases that many rows share: what a template leaves behind when its copies are gone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from llmctl.data import kernels
from llmctl.data.folding import encoded
from llmctl.data.kernels import Buffer, Ids, Kernel, Words
from llmctl.data.texts import picked

WORDS = 8
SAMPLED = 5000
LONGEST = 40
"""Words of a phrase that are shown."""


def sample(rows: Ids) -> Ids:
    """At most SAMPLED rows, evenly taken."""
    return rows[:: max(1, -(-len(rows) // SAMPLED))]


def phrases(
    texts: Sequence[str], rows: Ids, use: Kernel, count: int = 10
) -> list[tuple[int, str, int]]:
    """The commonest runs of words among `rows`: (rows that have it, the words, one such row).

    A run is as long as all its WORDS-grams stand in at least half as many rows as the commonest.
    """
    kept = list(picked(texts, rows))
    buffer = Buffer.of(encoded(text, case=True) for text in kept)
    values, pointer = kernels.grams(buffer, kernels.shape(WORDS), use)
    short = np.diff(pointer) == 1  # perhaps a row of fewer words, which is no run
    owner = np.repeat(np.arange(len(kept)), np.diff(pointer))
    least = max(2, len(kept) // 1000)
    maybe = _often(values, least) & ~short[owner]
    single, first = _once_a_row(values[maybe], owner[maybe])
    found, at, number = np.unique(single, return_index=True, return_counts=True)
    many = np.flatnonzero(number > least)
    spread = dict(zip(found[many].tolist(), number[many].tolist(), strict=True))
    told: list[tuple[int, str, int]] = []
    taken = set[int]()
    for i in many[np.argsort(-number[many], kind="stable")].tolist():
        gram, row = int(found[i]), int(first[at[i]])
        if gram in taken:
            continue
        own = values[pointer[row] : pointer[row + 1]].tolist()
        begin, end = _run(own, own.index(gram), spread, spread[gram] / 2)
        taken.update(own[begin:end])
        told.append((spread[gram], _words(kept[row], begin, end + WORDS - 1), int(rows[row])))
        if len(told) == count:
            break
    return told


def _often(values: Words, least: int) -> NDArray[np.bool_]:
    """Which values may occur more than `least` times: their lower bits do; few others are left."""
    bits = len(values).bit_length() + 1
    lower = (values & np.uint64((1 << bits) - 1)).astype(np.int64)
    often: NDArray[np.bool_] = np.bincount(lower, minlength=1)[lower] > least
    return often


def _once_a_row(values: Words, owner: Ids) -> tuple[Words, Ids]:
    """Each gram once for each row that has it, and the row."""
    order = np.lexsort((values, owner))
    values, owner = values[order], owner[order]
    new = np.append(True, (np.diff(values) != 0) | (np.diff(owner) != 0))[: len(values)]
    return values[new], owner[new]


def _run(own: list[int], place: int, spread: dict[int, int], least: float) -> tuple[int, int]:
    """The first and the last place, exclusive, around `place` whose grams are common enough."""
    begin = end = place
    while begin > 0 and spread.get(own[begin - 1], 0) >= least:
        begin -= 1
    while end < len(own) and spread.get(own[end], 0) >= least:
        end += 1
    return begin, end


def _words(text: str, begin: int, end: int) -> str:
    """Words begin..end of a text as they stand there, cut when there are many."""
    data = encoded(text, case=True)
    _, starts, stops = kernels.units_of(np.frombuffer(data, np.uint8), kernels.shape(1))
    last = min(end, begin + LONGEST)
    part = data[starts[begin] : stops[last - 1]].decode("utf-8", "replace")
    return " ".join(part.split()) + (" …" if last < end else "")
