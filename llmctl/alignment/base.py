"""The promise of an objective of dpo: the recipe's model and rows in, a changed model out."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmctl.plugins import Backend
from llmctl.schema.training import TrainingRecipe, tiled

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


class Objective(Backend):
    """What training makes larger, and how that is measured before and after."""

    unused: ClassVar[tuple[str, ...]] = ()
    """Keys of the recipe that say nothing to this objective; a recipe that sets one is refused."""

    @abstractmethod
    def align(self, recipe: DpoRecipe, artifact: Artifact) -> None:
        """Write the model, metrics.jsonl and report.html; set the artifact's model."""

    def refuse(self, recipe: DpoRecipe) -> None:
        """Raise ValueError for a recipe that contradicts this objective."""

    def steps_of(self, recipe: DpoRecipe, rows: int) -> int:
        """Optimizer steps of all epochs over so many rows."""
        return TrainingRecipe.steps_of(recipe, rows)

    def tokens_at_once(self, recipe: DpoRecipe) -> int:
        """Most tokens of one forward pass: both answers of a pair go through together."""
        return 2 * recipe.batch_size * recipe.max_length

    def logits_at_once(self, recipe: DpoRecipe, words: int) -> int:
        """Numbers in the largest table of logits."""
        return tiled(self.tokens_at_once(recipe), words)

    def inputs(self) -> dict[str, Path | str]:
        """Own key -> what the objective reads beside the model and the rows."""
        return {}
