"""Whether better answers are simply the longer ones: DPO learns length when nothing forbids it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from math import sqrt
from statistics import fmean, stdev
from typing import Any

TELLING = 0.6
"""Share of pairs whose better answer is the longer (or the shorter) one from which it is told."""
FAR = 0.2
"""Difference of the means from which it is told, as a share of the mean of all answers."""

FEW = 10
"""Fewer pairs tell nothing: two that happen to agree have no spread, and so no error."""


@dataclass(frozen=True)
class Lengths:
    """Words of better against worse answers; errors are one standard error."""

    pairs: int
    chosen_words: float
    rejected_words: float
    gap: float
    """Mean of chosen minus rejected, in words."""
    gap_se: float
    longer: float
    """Share of the pairs whose better answer is the longer one; equal lengths count half."""
    longer_se: float
    correlation: float
    """Of length and being chosen over all answers (point-biserial), from -1 to 1."""

    @property
    def systematic(self) -> str:
        """`longer` or `shorter` when better answers are so beyond the error; else empty."""
        if self.pairs < FEW:
            return ""
        distance = self.longer - 0.5
        often = abs(distance) > 2 * self.longer_se and abs(distance) >= TELLING - 0.5
        middle = (self.chosen_words + self.rejected_words) / 2
        far = abs(self.gap) > 2 * self.gap_se and abs(self.gap) >= FAR * middle
        if not (often or far):
            return ""
        return "longer" if (distance if often else self.gap) > 0 else "shorter"

    def metrics(self) -> dict[str, float]:
        """For a manifest."""
        return {f"length_{name}": value for name, value in asdict(self).items()}

    def lines(self) -> list[tuple[str, str]]:
        """For a report."""
        return [
            ("pairs", str(self.pairs)),
            ("words of chosen", f"{self.chosen_words:.1f}"),
            ("words of rejected", f"{self.rejected_words:.1f}"),
            ("chosen longer by", f"{self.gap:+.1f} ± {self.gap_se:.1f} words"),
            ("chosen is the longer one", f"{self.longer:.1%} ± {self.longer_se:.1%} of pairs"),
            ("correlation of length and being chosen", f"{self.correlation:+.3f}"),
        ]

    def warning(self) -> str:
        """What to say when length alone tells the better answer; empty when it does not."""
        if not self.systematic:
            return ""
        share = self.longer if self.systematic == "longer" else 1 - self.longer
        return (
            f"the better answer is the {self.systematic} one in {share:.0%} ± "
            f"{self.longer_se:.0%} of {self.pairs} pairs ({self.gap:+.1f} ± {self.gap_se:.1f} "
            f"words on average): a model will learn length; add pairs of the other kind, or use a "
            f"loss that is normalised by length"
        )


def measured(rows: Iterable[Mapping[str, Any]]) -> Lengths | None:
    """The lengths of pairs; None when there are fewer than two."""
    sides = [
        tuple(sum(len(m["content"].split()) for m in row[name]) for name in ("chosen", "rejected"))
        for row in rows
        if "chosen" in row
    ]
    count = len(sides)
    if count < 2:
        return None
    gaps = [better - worse for better, worse in sides]
    wins = [1.0 if gap > 0 else 0.5 if gap == 0 else 0.0 for gap in gaps]
    better, worse = fmean(s[0] for s in sides), fmean(s[1] for s in sides)
    every = [length for side in sides for length in side]
    middle = fmean(every)
    spread = sqrt(fmean((length - middle) ** 2 for length in every))
    return Lengths(
        count,
        better,
        worse,
        fmean(gaps),
        stdev(gaps) / sqrt(count),
        fmean(wins),
        stdev(wins) / sqrt(count),
        # point-biserial with both groups of one size: (M1 - M0) / s * sqrt(1/4)
        (better - worse) / spread / 2 if spread else 0.0,
    )
