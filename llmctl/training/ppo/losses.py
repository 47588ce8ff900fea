"""The two losses of PPO and the entropy; tensors as in advantages.py."""

from __future__ import annotations

import torch
from torch import Tensor

from llmctl.training.ppo.advantages import masked_mean


def policy_loss(
    logps: Tensor, old: Tensor, advantages: Tensor, mask: Tensor, clip: float
) -> tuple[Tensor, Tensor]:
    """(-min(r A, clip(r, 1 - clip, 1 + clip) A), share of tokens where the clip binds).

    r = p / p_old (Schulman et al. 2017, eq. 7).
    """
    ratio = torch.exp(logps - old)
    free, held = ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages
    return -masked_mean(torch.min(free, held), mask), masked_mean((held < free).float(), mask)


def value_loss(values: Tensor, old: Tensor, returns: Tensor, mask: Tensor, clip: float) -> Tensor:
    """max((V - R)^2, (V_old + clip(V - V_old) - R)^2) / 2: a value moves at most `clip` a step.

    The form of OpenAI's baselines; Schulman et al. 2017 leave the value loss open (eq. 9).
    """
    near = old + (values - old).clamp(-clip, clip)
    return masked_mean(torch.max((values - returns) ** 2, (near - returns) ** 2), mask) / 2


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the next token in nats; the last dimension is the vocabulary."""
    logs = torch.log_softmax(logits, -1)
    return -(logs.exp() * logs).sum(-1)
