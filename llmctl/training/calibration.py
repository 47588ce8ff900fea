"""Whether a reward model's confidence is right: how often, against how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

BINS = 5


@dataclass(frozen=True)
class Bin:
    """Pairs of nearly the same confidence; `right` is the share whose better answer won."""

    confidence: float
    right: float
    n: int


def confidence(margin: float) -> float:
    """The probability of the answer that the model prefers: s(|margin|) (Bradley and Terry)."""
    return 1 / (1 + math.exp(-min(abs(margin), 700.0)))


def reliability(margins: Sequence[float]) -> list[Bin]:
    """`margins` are better minus worse; bins of equal width between a confidence of 0.5 and 1."""
    groups: list[list[float]] = [[] for _ in range(BINS)]
    for margin in margins:
        groups[min(int((confidence(margin) - 0.5) * 2 * BINS), BINS - 1)].append(margin)
    return [
        Bin(
            sum(map(confidence, group)) / len(group),
            sum(margin > 0 for margin in group) / len(group),
            len(group),
        )
        for group in groups
        if group
    ]


def error(margins: Sequence[float]) -> float:
    """Expected calibration error (Naeini et al. 2015): |right - confidence| over the pairs."""
    bins = reliability(margins)
    return sum(each.n * abs(each.right - each.confidence) for each in bins) / len(margins)
