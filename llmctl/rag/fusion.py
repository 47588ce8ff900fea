"""Scores of several searches -> one order: relative scores, reciprocal ranks, smoothing, MMR.

Every function takes scores of the same candidates in the same order, float32, shape (candidates,),
where larger is better, and returns scores of that shape.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def relative(scores: np.ndarray, floor: float) -> np.ndarray:
    """Min-max: `floor` becomes 0 and the best becomes 1; what lies below the floor is 0."""
    import numpy as np

    if not len(scores):
        return scores
    span = float(scores.max()) - floor
    if span <= 1e-9:
        return np.where(scores >= floor, np.float32(scores.max() > 0), np.float32(0))
    return np.asarray(np.clip((scores - floor) / span, 0, 1), dtype=np.float32)


def reciprocal(scores: np.ndarray, found: np.ndarray, constant: float) -> np.ndarray:
    """1 / (constant + rank) of what a search `found`, 0 elsewhere (Cormack et al. 2009).

    It is multiplied by constant + 1, so that the first rank gives 1.
    """
    import numpy as np

    shares = np.zeros(len(scores), dtype=np.float32)
    rows = np.flatnonzero(found)
    order = rows[np.argsort(-scores[rows], kind="stable")]
    shares[order] = (constant + 1) / (constant + 1 + np.arange(len(order)))
    return shares


def smoothed(
    scores: np.ndarray, vectors: np.ndarray, share: float, neighbours: int, power: float = 4.0
) -> np.ndarray:
    """A candidate's score mixed with that of the candidates nearest to it (Diaz 2005).

    What answers a question lies close together, so a candidate among good ones is lifted and one
    that stands alone is lowered. `share` of the result is the mean over the `neighbours` nearest
    ones, weighted by their cosine to the power of `power`; vectors have shape (candidates,
    dimensions) and length 1.
    """
    import numpy as np

    count = len(scores)
    nearest = min(neighbours, count - 1)
    if not share or nearest < 1:
        return scores
    weights = np.clip(vectors @ vectors.T, 0, None)
    np.fill_diagonal(weights, 0)
    weights **= power
    smallest = np.partition(weights, count - nearest, axis=1)[:, count - nearest, None]
    weights[weights < smallest] = 0
    total = weights.sum(axis=1)
    around = weights @ scores / np.where(total > 0, total, 1)
    around = np.where(total > 0, around, scores)  # nothing is near: it keeps its own score
    return np.asarray((1 - share) * scores + share * around, dtype=np.float32)


def diverse(scores: np.ndarray, vectors: np.ndarray, k: int, diversity: float) -> list[int]:
    """The k candidates that maximal marginal relevance takes, in its order.

    (Carbonell and Goldstein 1998.) Each step takes the largest (1 - diversity) * score -
    diversity * the largest cosine with what is taken already; scores are brought to 0..1 first.
    """
    import numpy as np

    if not len(scores):
        return []
    value = relative(scores, float(scores.min()))
    nearest = np.full(len(scores), -1.0, dtype=np.float32)
    taken: list[int] = []
    free = np.ones(len(scores), dtype=bool)
    while free.any() and len(taken) < k:
        gain = (1 - diversity) * value - diversity * (nearest if taken else 0)
        best = int(np.argmax(np.where(free, gain, -np.inf)))
        taken.append(best)
        free[best] = False
        nearest = np.maximum(nearest, vectors @ vectors[best])
    return taken
