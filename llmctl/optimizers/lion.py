"""Lion (Chen et al. 2023): the sign of a running mean, by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.optimizers.base import Optimizer, Shape, elements, state_in_8_bits


class Lion(Optimizer):
    """Half of AdamW's state; wants a learning rate three to ten times lower."""

    needs: ClassVar[dict[str, str]] = {"bitsandbytes": "train"}

    betas: tuple[float, float] = Field(
        (0.9, 0.99), description="Shares of the running mean: in the step, and in what is kept."
    )
    bits: Literal[32, 8] = Field(32, description="Bits of the running mean.")

    def arguments(self) -> dict[str, Any]:
        """bitsandbytes' Lion."""
        name = "lion_8bit" if self.bits == 8 else "lion_32bit"
        return {"optim": name, "adam_beta1": self.betas[0], "adam_beta2": self.betas[1]}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """One number a weight."""
        return state_in_8_bits(shapes, 1) if self.bits == 8 else 4 * elements(shapes)
