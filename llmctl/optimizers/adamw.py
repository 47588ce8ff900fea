"""AdamW (Loshchilov and Hutter 2019), torch's fused kernel."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llmctl.optimizers.base import AdamShaped, Shape, elements


class AdamW(AdamShaped):
    """The usual choice; its state is twice the size of fp32 weights."""

    def arguments(self) -> dict[str, Any]:
        """torch's own, fused."""
        return {"optim": "adamw_torch_fused", **self.adam_arguments()}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """Two fp32 numbers a weight."""
        return 8 * elements(shapes)
