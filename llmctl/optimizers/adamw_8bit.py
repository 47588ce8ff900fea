"""AdamW with 8-bit states (Dettmers et al. 2022), by bitsandbytes; on a CPU too."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

from pydantic import Field

from llmctl.optimizers.base import AdamShaped, Shape, state_in_8_bits


class AdamW8bit(AdamShaped):
    """A quarter of AdamW's state, with the same settings."""

    needs: ClassVar[dict[str, str]] = {"bitsandbytes": "train"}

    paged: bool = Field(
        False,
        description="Let the state be moved to the host's memory when the GPU's is short; on a CPU "
        "there is nothing to move and it changes nothing.",
    )

    def arguments(self) -> dict[str, Any]:
        """bitsandbytes' AdamW; embeddings keep fp32 states, as it recommends."""
        name = "paged_adamw_8bit" if self.paged else "adamw_bnb_8bit"
        return {"optim": name, **self.adam_arguments()}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """Two 8-bit numbers a weight, and a scale for each block of 256."""
        return state_in_8_bits(shapes, 2)
