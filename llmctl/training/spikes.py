"""Alarms: a loss or a gradient norm that jumps far above what it was in the last steps."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from statistics import median
from typing import Any

WINDOW = 20
"""Steps that a value is compared with."""
FEWEST = 10
"""Steps before the first alarm: the beginning of a run is rough."""
WATCHED = ("loss", "grad_norm")


class Spikes:
    """Remembers the last steps and says which values of a new one jump.

    A jump is more than `factor` spreads above the median of the window; the spread is the median
    absolute deviation scaled to a normal's standard deviation, at least 5 % of the median, so that
    a flat curve does not alarm at every ripple.
    """

    def __init__(self, factor: float) -> None:
        self.factor = factor
        self.seen: dict[str, deque[float]] = {key: deque(maxlen=WINDOW) for key in WATCHED}

    def check(self, row: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
        """Key -> (value, usual value) of what jumps in this step; the step is remembered."""
        found = {}
        for key, before in self.seen.items():
            value = row.get(key)
            if value is None:
                continue
            if len(before) >= FEWEST:
                usual = median(before)
                spread = 1.4826 * median(abs(each - usual) for each in before)
                if value - usual > self.factor * max(spread, 0.05 * abs(usual)):
                    found[key] = (float(value), usual)
            before.append(float(value))
        return found
