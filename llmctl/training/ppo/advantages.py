"""From a score of an answer to an advantage of each of its tokens.

All tensors are (answers, tokens); `mask` is 1 on an answer's tokens, its end of turn included, and
0 on the padding after it.
"""

from __future__ import annotations

import torch
from torch import Tensor


def token_rewards(
    scores: Tensor, logps: Tensor, reference: Tensor, mask: Tensor, beta: float
) -> Tensor:
    """-beta (log p - log p_ref) at each token, plus the score at the last.

    Ziegler et al. 2019, eq. 2; Ouyang et al. 2022, eq. 2.

    `scores` is (answers,); the two log-probabilities are those of the sampled tokens, in nats.
    """
    rewards = -beta * (logps - reference) * mask
    last = mask.sum(1).long() - 1
    rows = torch.arange(len(scores), device=scores.device)
    rewards[rows, last] += scores
    return rewards


def gae(
    rewards: Tensor, values: Tensor, mask: Tensor, discount: float, trace: float
) -> tuple[Tensor, Tensor]:
    """(advantages, returns): generalised advantage estimation (Schulman et al. 2016, eq. 16).

    A_t = d_t + discount * trace * A_(t+1), d_t = r_t + discount * V_(t+1) - V_t; after the last
    token both A and V are 0. The returns, which the value head learns, are A + V.
    """
    advantages = torch.zeros_like(rewards)
    following = torch.zeros_like(rewards[:, 0])
    value = torch.zeros_like(rewards[:, 0])
    for t in reversed(range(rewards.shape[1])):
        delta = rewards[:, t] + discount * value - values[:, t]
        following = (delta + discount * trace * following) * mask[:, t]
        value = values[:, t] * mask[:, t]
        advantages[:, t] = following
    return advantages, (advantages + values) * mask


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """The mean over the tokens of all answers."""
    return (values * mask).sum() / mask.sum()


def whiten(values: Tensor, mask: Tensor) -> Tensor:
    """Mean 0 and deviation 1 over the tokens of all answers (as in Ziegler et al. 2019's code)."""
    mean = masked_mean(values, mask)
    variance = masked_mean((values - mean) ** 2, mask)
    return (values - mean) * torch.rsqrt(variance + 1e-8) * mask
