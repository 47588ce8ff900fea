"""AdamW whose fp32 state moves between the GPU's and the host's memory, by bitsandbytes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from llmctl.optimizers.base import AdamShaped, Shape, elements


class PagedAdamW(AdamShaped):
    """AdamW that survives a short peak of memory; on a CPU it is AdamW."""

    needs: ClassVar[dict[str, str]] = {"bitsandbytes": "train"}

    def arguments(self) -> dict[str, Any]:
        """bitsandbytes' paged AdamW."""
        return {"optim": "paged_adamw_32bit", **self.adam_arguments()}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """Two fp32 numbers a weight, wherever they lie."""
        return 8 * elements(shapes)
