"""Means, differences and their uncertainty; every number comes with n.

Weighted values (a loss per token) are ratio estimators: sum(w * v) / sum(w), the items being the
independent units (Cochran 1977, 6.3). Items of one cluster are taken together (Miller 2024,
"Adding Error Bars to Evals", eq. 4). Intervals are Student's; for a share Wilson's (1927), and so
for every mean of values that have bounds.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Bounds = tuple[float, float]
"""The lowest and the highest of some values."""
FEWEST_CLUSTERS = 20
"""With fewer, the error of clustered items is itself too uncertain to be used."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error and interval."""

    value: float
    se: float
    low: float
    high: float
    n: int
    clusters: int | None = None

    def __str__(self) -> str:
        error = f" ± {self.se:.2g}" if math.isfinite(self.se) else ""
        return f"{self.value:.4g}{error} (n={self.n})"


@dataclass(frozen=True)
class Difference(Estimate):
    """Model minus baseline on the same items."""

    p: float = math.nan
    """Two-sided: McNemar's exact test for 0/1 values, else Student's paired test."""
    gained: int | None = None
    """Items that only the model has right; None unless the values are 0 or 1."""
    lost: int | None = None
    detectable: float = math.nan
    """The smallest true difference that this n shows in 80 % of the cases."""

    def __str__(self) -> str:
        error = f" ± {self.se:.2g}" if math.isfinite(self.se) else ""
        return f"{self.value:+.4g}{error} (n={self.n}, paired)"


def estimate(
    values: Sequence[float],
    weights: Sequence[float] | None = None,
    clusters: Sequence[str | None] | None = None,
    confidence: float = 0.95,
    bounds: Bounds | None = None,
) -> Estimate:
    """The mean of `values`, which lie in `bounds`; raises ValueError when there is none."""
    weights = weights or [1.0] * len(values)
    value, se, degrees, groups = _ratio(values, weights, clusters)
    plain = groups is None and set(values) <= {0.0, 1.0} and len(set(weights)) == 1
    if plain and bounds in (None, (0, 1)):  # a score of 1 may be the lowest
        low, high = wilson(sum(values), len(values), confidence)
    elif bounds is not None:
        low, high = _bounded(value, se, degrees, confidence, bounds)
    else:
        low, high = _interval(value, se, degrees, confidence)
    return Estimate(value, se, low, high, len(values), groups)


def difference(
    baseline: Sequence[float],
    model: Sequence[float],
    weights: Sequence[float] | None = None,
    clusters: Sequence[str | None] | None = None,
    confidence: float = 0.95,
    bounds: Bounds | None = None,
) -> Difference:
    """The paired difference of two models on the same items, whose values lie in `bounds`."""
    from scipy import stats

    weights = weights or [1.0] * len(model)
    each = [b - a for a, b in zip(baseline, model, strict=True)]
    value, se, degrees, groups = _ratio(each, weights, clusters)
    low, high = _interval(value, se, degrees, confidence)
    if bounds is not None:
        most = bounds[1] - bounds[0]
        low, high = max(low, -most), min(high, most)
    gained = lost = None
    if {*baseline, *model} <= {0.0, 1.0}:
        gained, lost = each.count(1.0), each.count(-1.0)
        p = stats.binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    elif se > 0:
        p = 2 * stats.t.sf(abs(value / se), degrees)
    else:
        p = math.nan if math.isnan(se) else float(value == 0)
    power = stats.norm.isf((1 - confidence) / 2) + stats.norm.isf(0.2)
    return Difference(
        value, se, low, high, len(each), groups, float(p), gained, lost, float(power * se)
    )


def wilson(right: float, n: float, confidence: float, degrees: float = math.inf) -> Bounds:
    """Wilson's interval of a share; with Student's quantile where `degrees` are few."""
    from scipy import stats

    z = float(stats.t.isf((1 - confidence) / 2, degrees))
    centre = (right + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(right * (n - right) / n + z * z / 4)
    # at the ends the formula gives 0 and 1, but for rounding
    return centre - half if right else 0.0, centre + half if right < n else 1.0


def bootstrap(
    values: Sequence[float], confidence: float, draws: int = 2000, seed: int = 0
) -> Bounds:
    """Percentile interval of the mean from resampling the values (Efron 1979)."""
    import numpy as np

    found = np.asarray(values, dtype=float)
    means = np.random.default_rng(seed).choice(found, (draws, len(found))).mean(axis=1)
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def items_needed(n: int, se: float, wanted: float, confidence: float) -> int | None:
    """How many items would show a true difference `wanted` in 80 % of the cases."""
    from scipy import stats

    if not wanted or math.isnan(se) or math.isnan(wanted):
        return None
    power = float(stats.norm.isf((1 - confidence) / 2) + stats.norm.isf(0.2))
    return math.ceil(n * (power * se / wanted) ** 2)


def _ratio(
    values: Sequence[float], weights: Sequence[float], clusters: Sequence[str | None] | None
) -> tuple[float, float, int, int | None]:
    """(value, standard error, degrees of freedom, number of clusters when they are used)."""
    if not values:
        raise ValueError("no values")
    total = math.fsum(weights)
    value = math.fsum(v * w for v, w in zip(values, weights, strict=True)) / total
    residues = [w * (v - value) for v, w in zip(values, weights, strict=True)]
    groups: int | None = None
    if clusters is not None:
        sums: dict[Any, float] = defaultdict(float)
        for i, (cluster, residue) in enumerate(zip(clusters, residues, strict=True)):
            sums[i if cluster is None else cluster] += residue
        if FEWEST_CLUSTERS <= len(sums) < len(values):
            residues, groups = list(sums.values()), len(sums)
    n = len(residues)
    if n < 2:
        return value, math.nan, 0, groups
    spread = math.fsum(r * r for r in residues)
    return value, math.sqrt(spread * n / (n - 1)) / total, n - 1, groups


def _bounded(value: float, se: float, degrees: int, confidence: float, bounds: Bounds) -> Bounds:
    """Wilson's interval of a share with the same error, from as many items as would have it.

    Such an effective number of items is used for shares of clustered samples (Franco et al. 2019);
    the interval cannot leave the bounds, and of small means it holds the truth more often than
    Student's does.
    """
    low, high = bounds
    if math.isnan(se):
        return bounds
    share, error = (value - low) / (high - low), se / (high - low)
    share = min(max(share, 0.0), 1.0)
    if error == 0 and 0 < share < 1:
        return value, value
    # at a bound all items are alike, and only their number tells how sure that is
    n = share * (1 - share) / error**2 if error else degrees + 1
    least, most = wilson(share * n, n, confidence, degrees)
    return low + least * (high - low), low + most * (high - low)


def _interval(value: float, se: float, degrees: int, confidence: float) -> Bounds:
    from scipy import stats

    if math.isnan(se):
        return -math.inf, math.inf
    half = float(stats.t.isf((1 - confidence) / 2, degrees)) * se
    return value - half, value + half
