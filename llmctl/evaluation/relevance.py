"""Numbers of a ranked list against judgements: nDCG, recall, precision, MRR, average precision.

`ranked` are document ids, best first, each at most once; `judged` is id -> grade, where 0 and less
means not relevant. Definitions as in trec_eval, but for the gain of nDCG, which is 2^grade - 1
(Burges et al. 2005); `linear` gives trec_eval's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence


def ndcg(ranked: Sequence[str], judged: Mapping[str, int], k: int, linear: bool = False) -> float:
    """Discounted gain of the first k over that of the best possible order."""

    def gain(grade: int) -> float:
        return float(max(grade, 0)) if linear else float(2 ** max(grade, 0) - 1)

    def total(grades: Sequence[int]) -> float:
        return sum(gain(grade) / math.log2(rank + 2) for rank, grade in enumerate(grades))

    best = total(sorted(judged.values(), reverse=True)[:k])
    return total([judged.get(key, 0) for key in ranked[:k]]) / best if best else 0.0


def recall(ranked: Sequence[str], judged: Mapping[str, int], k: int) -> float:
    """Share of the relevant documents that are among the first k."""
    relevant = {key for key, grade in judged.items() if grade > 0}
    return len(relevant.intersection(ranked[:k])) / len(relevant) if relevant else 0.0


def precision(ranked: Sequence[str], judged: Mapping[str, int], k: int) -> float:
    """Share of the first k that are relevant."""
    return sum(judged.get(key, 0) > 0 for key in ranked[:k]) / k


def reciprocal_rank(ranked: Sequence[str], judged: Mapping[str, int], k: int) -> float:
    """1 / rank of the first relevant one among the first k; its mean is MRR@k."""
    for rank, key in enumerate(ranked[:k], 1):
        if judged.get(key, 0) > 0:
            return 1 / rank
    return 0.0


def average_precision(ranked: Sequence[str], judged: Mapping[str, int], k: int) -> float:
    """Mean over all relevant documents of the precision where each is found; its mean is MAP@k."""
    relevant = sum(grade > 0 for grade in judged.values())
    found, total = 0, 0.0
    for rank, key in enumerate(ranked[:k], 1):
        if judged.get(key, 0) > 0:
            found += 1
            total += found / rank
    return total / relevant if relevant else 0.0
