"""The promise of an objective of dpo: the recipe's model and rows in, a changed model out."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from llmctl.data import outset
from llmctl.errors import InputError
from llmctl.plugins import Backend
from llmctl.records import check_labelled, check_pair
from llmctl.schema.losses import UNPAIRED
from llmctl.schema.training import TrainingRecipe, tiled

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


def check_loss(loss: str, where: str) -> None:
    """Refuse labelled answers, of which the first stands at `where`, to a loss of pairs."""
    if loss not in UNPAIRED:
        raise InputError(
            f"{where}: is one answer with a label; loss: {loss} needs pairs; write loss: kto"
        )


class Objective(Backend):
    """What training makes larger, and how that is measured before and after."""

    unused: ClassVar[tuple[str, ...]] = ()
    """Keys of the recipe that say nothing to this objective; a recipe that sets one is refused."""

    def look(self, recipe: DpoRecipe) -> None:
        """Refuse rows that nothing can be learnt from, as far as the first ones tell; light."""
        outset.look(recipe.data, lambda row, where: self.check(recipe, row, where))

    def check(self, recipe: DpoRecipe, row: dict[str, Any], where: str) -> None:
        """Refuse a row, which stands at file:line, that is neither a pair nor a labelled answer."""
        if "completion" in row or "label" in row:
            check_loss(recipe.loss, where)
            check_labelled(row, where)
        else:
            check_pair(row, where)

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
