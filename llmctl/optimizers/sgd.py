"""Stochastic gradient descent, with momentum when asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from llmctl.optimizers.base import Optimizer, Shape, elements


class SGD(Optimizer):
    """No state without momentum: the least memory, and the most sensitive to the rate."""

    momentum: float = Field(0.0, ge=0, lt=1, description="Share of the last step that is kept.")

    def arguments(self) -> dict[str, Any]:
        """torch's own."""
        return {"optim": "sgd", "optim_args": f"momentum={self.momentum}"}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """Nothing, or one fp32 number a weight with momentum."""
        return 4 * elements(shapes) if self.momentum else 0
