"""A policy with a value head: probabilities and values of the tokens of answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from llmctl.training.ppo.losses import entropy


@dataclass(frozen=True)
class Batch:
    """Prompts padded on the left, answers on the right, so that all answers begin in one column."""

    ids: Tensor
    seen: Tensor
    mask: Tensor
    """(answers, tokens of the longest answer)."""

    def rows(self, at: Sequence[int]) -> Batch:
        """Some of its answers."""
        return Batch(self.ids[at], self.seen[at], self.mask[at])


def batch(
    prompts: Sequence[list[int]], answers: Sequence[list[int]], pad: int, device: Any
) -> Batch:
    """Tokens as one tensor."""
    left, right = max(map(len, prompts)), max(map(len, answers))
    ids = torch.full((len(prompts), left + right), pad)
    seen = torch.zeros_like(ids)
    for row, (prompt, answer) in enumerate(zip(prompts, answers, strict=True)):
        tokens = torch.tensor(prompt + answer)
        start = left - len(prompt)
        ids[row, start : start + len(tokens)] = tokens
        seen[row, start : start + len(tokens)] = 1
    return Batch(ids.to(device), seen.to(device), seen[:, left:].float().to(device))


class Actor(nn.Module):
    """The policy, and a head that tells a state's value from its last hidden vector.

    The head begins at zero: before anything is known, no answer is worth more than another.
    """

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy
        self.value = nn.Linear(policy.config.get_text_config().hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, tokens: Batch, temperature: float) -> tuple[Tensor, Tensor, Tensor]:
        """(log-probabilities, values, entropies) of the answers' tokens, each (answers, tokens).

        The value of a token is that of the state before it.
        """
        width = tokens.mask.shape[1]
        out = self.policy(
            input_ids=tokens.ids,
            attention_mask=tokens.seen,
            position_ids=(tokens.seen.cumsum(1) - 1).clamp(min=0),
            use_cache=False,
            output_hidden_states=True,
            logits_to_keep=width + 1,
        )
        logits = out.logits[:, :-1].float() / temperature
        hidden = out.hidden_states[-1][:, -width - 1 : -1].float()
        chosen = tokens.ids[:, -width:, None]
        logps = torch.log_softmax(logits, -1).gather(2, chosen)[..., 0]
        values = self.value(hidden)[..., 0]
        return logps * tokens.mask, values * tokens.mask, entropy(logits) * tokens.mask


@torch.no_grad()
def looked_at(
    actor: Actor, tokens: Batch, temperature: float, size: int
) -> tuple[Tensor, Tensor, Tensor]:
    """As `forward`, without gradients and `size` answers at a time."""
    parts = [
        actor(tokens.rows(list(range(start, min(start + size, len(tokens.ids))))), temperature)
        for start in range(0, len(tokens.ids), size)
    ]
    logps, values, entropies = (torch.cat(each) for each in zip(*parts, strict=True))
    return logps, values, entropies


@contextmanager
def reference(actor: Actor, frozen: Actor | None) -> Iterator[Actor]:
    """What the policy is held to: the frozen copy, else the policy without its adapter."""
    if frozen is not None:
        yield frozen
        return
    with actor.policy.disable_adapter():
        yield actor
