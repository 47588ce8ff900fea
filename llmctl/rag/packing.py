"""Pieces of a text that are as large as allowed, cut at the best places that there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

Span = tuple[int, int]
Places = Callable[[int, int], Iterable[int]]
"""(start, end) -> where a piece may begin between them, in order."""


def pack(
    span: Span,
    levels: Sequence[Places],
    fits: Callable[[int, int], bool],
    last: Callable[[int, int], Iterable[Span]],
) -> Iterator[Span]:
    """Spans that fit and follow each other without a gap.

    Cuts are made at the places of the first level; only a piece that does not fit is cut at those
    of the next level, and by `last` when no level is left. Neighbours of one level are joined.
    """
    if fits(*span):
        yield span
        return
    if not levels:
        yield from last(*span)
        return
    begin = kept = span[0]  # text[begin:kept] fits and waits for a neighbour
    edges = [place for place in levels[0](*span) if span[0] < place < span[1]]
    for start, end in zip([span[0], *edges], [*edges, span[1]], strict=True):
        if fits(begin, end):
            kept = end
            continue
        if begin < kept:
            yield begin, kept
        begin = kept = start
        if fits(start, end):
            kept = end
        else:
            yield from pack((start, end), levels[1:], fits, last)
            begin = kept = end
    if begin < kept:
        yield begin, kept


def between(places: Sequence[int]) -> Places:
    """Sorted places as a level."""
    from bisect import bisect_left, bisect_right

    return lambda start, end: places[bisect_right(places, start) : bisect_left(places, end)]
