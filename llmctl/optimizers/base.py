"""The promise of an optimizer: settings for the trainer, and the memory that its state takes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from math import prod
from typing import Any

from pydantic import Field

from llmctl.plugins import Backend

Shape = tuple[int, ...]


class Optimizer(Backend):
    """Turns gradients into steps; what it remembers between steps is its state."""

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """The keys of transformers' TrainingArguments that choose and set it."""

    @abstractmethod
    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """Bytes that it remembers for trained tensors of these shapes."""

    def factory(self) -> Any:
        """None, or what builds the optimizer itself where TrainingArguments has no name for it.

        A pair (class without arguments, keywords): the trainer calls `class()(model, **keywords)`.
        """
        return None


class AdamShaped(Optimizer):
    """Two running means for each weight, of the gradient and of its square."""

    betas: tuple[float, float] = Field(
        (0.9, 0.999), description="How much of the two running means is kept at each step."
    )
    eps: float = Field(1e-8, gt=0, description="Added to the root that the step is divided by.")

    def adam_arguments(self) -> dict[str, Any]:
        """Betas and eps in TrainingArguments' words."""
        return {
            "adam_beta1": self.betas[0],
            "adam_beta2": self.betas[1],
            "adam_epsilon": self.eps,
        }


def elements(shapes: Iterable[Shape]) -> int:
    """Numbers in tensors of these shapes."""
    return sum(prod(shape) for shape in shapes)


BLOCK = 256
"""Numbers that share one fp32 scale in bitsandbytes' 8-bit states."""
SMALLEST = 4096
"""bitsandbytes keeps the state of tensors below this size in fp32 (`min_8bit_size`)."""


def state_in_8_bits(shapes: Iterable[Shape], states: int) -> int:
    """Bytes of `states` block-wise 8-bit numbers a weight (Dettmers et al. 2022)."""
    total = 0
    for shape in shapes:
        n = prod(shape)
        each = n * 4 if n < SMALLEST else n + n // BLOCK * 4
        total += states * each
    return total
