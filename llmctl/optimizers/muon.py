"""Muon (Jordan et al. 2024): orthogonal steps for matrices, AdamW for everything else."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import Field

from llmctl.optimizers.base import Optimizer, Shape, elements


class Muon(Optimizer):
    """torch's Muon for the layers' matrices; embeddings, output layer and vectors take AdamW.

    Steps are scaled to the size of AdamW's (Liu et al. 2025), so AdamW's learning rates fit.
    """

    momentum: float = Field(0.95, ge=0, lt=1, description="Share of the last step that is kept.")

    def arguments(self) -> dict[str, Any]:
        """Nothing: the trainer has no name for it."""
        return {}

    def state_bytes(self, shapes: Iterable[Shape]) -> int:
        """One fp32 number for each weight of a matrix, two for others; embeddings count as one."""
        each = list(shapes)
        flat = elements(shape for shape in each if len(shape) != 2)
        return 4 * elements(each) + 4 * flat

    def factory(self) -> Any:
        """Muon and AdamW behind one face."""
        from llmctl.training.muon import Factory

        return Factory, {"momentum": self.momentum}
