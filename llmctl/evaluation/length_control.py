"""A win rate without what length alone wins.

After length-controlled AlpacaEval (Dubois et al. 2024): the logit of a win is theta plus
phi * tanh(d / sd(d)), d being the difference of lengths; the controlled win rate is the win rate of
answers of equal length, 1 / (1 + exp(-theta)). The paper's term for the difficulty of each
instruction needs many models and is left out, so figures are not those of its leaderboard.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from llmctl.judges.base import Contest, Preference

if TYPE_CHECKING:
    import numpy as np

RIDGE = 1e-3
"""Weight of the squares of both coefficients, per item: they stay finite when one side wins all."""
DRAWS = 500


def controlled(
    points: Sequence[float], longer_by: Sequence[float], confidence: float, seed: int = 0
) -> tuple[float, float, float] | None:
    """(win rate at equal length, low, high); the interval from resampling the items.

    Args:
        points: 1 for a win, 0.5 for a tie, 0 for a loss.
        longer_by: length of the answer less that of its opponent, in words.

    Returns:
        None when there are fewer than 10 items or every difference is the same.
    """
    import numpy as np

    won, by = np.asarray(points, dtype=float), np.asarray(longer_by, dtype=float)
    if len(won) < 10 or by.std() == 0:
        return None
    spread = np.tanh(by / by.std())
    random = np.random.default_rng(seed)
    draws = [random.integers(len(won), size=len(won)) for _ in range(DRAWS)]
    rates = [fitted(won[each], spread[each]) for each in draws]
    low, high = np.quantile(rates, [(1 - confidence) / 2, (1 + confidence) / 2])
    return fitted(won, spread), float(low), float(high)


def of_preferences(
    contests: Sequence[Contest], preferences: Sequence[Preference], confidence: float
) -> dict[str, float]:
    """The win rate of the first answers at equal length, with its interval; empty if unknown."""
    both = [
        (each.points, float(len(contest.first.split()) - len(contest.second.split())))
        for contest, each in zip(contests, preferences, strict=True)
        if each.points is not None
    ]
    found = controlled([points for points, _ in both], [by for _, by in both], confidence)
    names = ("length_controlled_win_rate", "length_controlled_low", "length_controlled_high")
    return {} if found is None else dict(zip(names, found, strict=True))


def fitted(won: np.ndarray, spread: np.ndarray) -> float:
    """1 / (1 + exp(-theta)) of the fit by Newton's method."""
    import numpy as np

    design = np.stack([np.ones_like(spread), spread], axis=1)  # (items, 2)
    weights = np.zeros(2)
    penalty = RIDGE * len(won) * np.eye(2)
    for _ in range(50):
        chance = 1 / (1 + np.exp(-design @ weights))
        slope = design.T @ (won - chance) - penalty @ weights
        curve = (design * (chance * (1 - chance))[:, None]).T @ design + penalty
        step = np.linalg.solve(curve, slope)
        weights = weights + step
        if float(np.abs(step).max()) < 1e-9:
            break
    return float(1 / (1 + np.exp(-weights[0])))
