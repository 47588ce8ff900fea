"""The promise of a task of sft: the recipe's model and rows in, a tuned model in the artifact."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmctl.data import outset
from llmctl.plugins import Backend

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.parts import TrainData
    from llmctl.schema.sft import SftRecipe


class Task(Backend):
    """What the model learns to do, and how that is measured before and after."""

    has_steps: ClassVar[bool] = True
    """Whether it is trained step by step."""

    def inputs(self) -> dict[str, Path | str]:
        """Models and files that the task needs besides the recipe's."""
        return {}

    def look(self, data: TrainData) -> None:
        """Refuse rows that the task cannot learn from, as far as the first ones tell; light."""
        outset.look(data, self.check)

    @abstractmethod
    def check(self, row: dict[str, Any], where: str) -> None:
        """Refuse a row, which stands at file:line, that is not of the form that is learnt from."""

    @abstractmethod
    def tune(self, recipe: SftRecipe, artifact: Artifact) -> None:
        """Write the tuned model, metrics.jsonl and report.html; set the artifact's model."""
