"""Adafactor (Shazeer and Stern 2018): the second moment of a matrix as a row and a column."""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any

from llmctl.optimizers.base import Optimizer, Shape


class Adafactor(Optimizer):
    """Almost no state, and a step that follows the recipe's learning rate."""

    def arguments(self) -> dict[str, Any]:
        """transformers' own, without a first moment and without its own schedule."""
        return {"optim": "adafactor"}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """One fp32 number for each row and each column of a matrix, one a weight of a vector."""
        return 4 * sum(
            sum(shape[-2:]) * prod(shape[:-2]) if len(shape) > 1 else prod(shape)
            for shape in shapes
        )
