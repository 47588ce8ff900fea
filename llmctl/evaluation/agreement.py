"""How far raters agree, and what a score follows beside quality.

Kappas correct the share of agreement for what chance alone would give: Cohen (1960) for two
raters, Fleiss (1971) for several; so does Krippendorff's alpha, where not every rater has rated
everything. Below 0 is worse than chance, 1 is full agreement.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean
from typing import Any


def fleiss_kappa(ratings: Sequence[Sequence[Hashable]]) -> float:
    """Kappa of several raters (Fleiss 1971, eq. 3-8); each item has the same number of ratings.

    With p_j the share of category j among all ratings, and P_i the share of agreeing pairs among
    the pairs of ratings of item i: kappa = (mean P_i - sum p_j^2) / (1 - sum p_j^2).
    NaN when there is no item, or when every rating is the same (chance explains everything).
    """
    raters = {len(each) for each in ratings}
    if not ratings or raters <= {0, 1}:
        return math.nan
    if len(raters) > 1:
        raise ValueError("every item needs the same number of ratings")
    n = raters.pop()
    counts = [Counter(each) for each in ratings]
    agreeing = fmean(sum(c * (c - 1) for c in each.values()) / (n * (n - 1)) for each in counts)
    total = sum(counts, Counter())
    chance = sum((c / (n * len(ratings))) ** 2 for c in total.values())
    return math.nan if chance == 1 else (agreeing - chance) / (1 - chance)


def krippendorff_alpha(ratings: Sequence[Sequence[Hashable]]) -> float:
    """Alpha of nominal ratings (Krippendorff 2011, sect. C); items may differ in their raters.

    1 - D_o / D_e, with D_o the share of disagreeing pairs within items, each item counting by its
    ratings, and D_e that among all ratings. Items with one rating say nothing and are left out.
    With r ratings in all, r / n of each item, 1 - alpha is (1 - Fleiss' kappa) * (r - 1) / r.
    NaN when no item has two ratings, or when every rating is the same.
    """
    counts = [Counter(each) for each in ratings if len(each) > 1]
    total = sum(counts, Counter())
    r = total.total()
    chance = r * r - sum(c * c for c in total.values())
    if not chance:
        return math.nan
    apart = sum(
        (each.total() ** 2 - sum(c * c for c in each.values())) / (each.total() - 1)
        for each in counts
    )
    return 1 - (r - 1) * apart / chance


def cohen_kappa(one: Sequence[Hashable], other: Sequence[Hashable]) -> float:
    """Kappa of two raters: (p_o - p_e) / (1 - p_e) (Cohen 1960, eq. 1); NaN when p_e is 1."""
    if not one:
        return math.nan
    pairs = list(zip(one, other, strict=True))
    observed = sum(a == b for a, b in pairs) / len(pairs)
    first, second = Counter(one), Counter(other)
    chance = sum(first[label] * second[label] for label in first) / len(pairs) ** 2
    return math.nan if chance == 1 else (observed - chance) / (1 - chance)


def correlation(x: Sequence[float], y: Sequence[float]) -> float:
    """Spearman's rank correlation, -1 to 1; NaN when one of the two does not vary."""
    from scipy import stats

    if len(x) < 3 or len(set(x)) < 2 or len(set(y)) < 2:
        return math.nan
    return float(stats.spearmanr(x, y).statistic)


def known(found: Mapping[str, Any]) -> dict[str, Any]:
    """Figures without those that could not be computed."""
    return {k: v for k, v in found.items() if not (isinstance(v, float) and math.isnan(v))}
