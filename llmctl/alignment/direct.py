"""Direct: pairs or labelled answers teach the model itself, with no reward and no sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmctl.alignment.base import Objective
from llmctl.schema.losses import REFERENCE_FREE, UNPAIRED

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


class DirectObjective(Objective):
    """DPO (Rafailov et al. 2023) and its family; the recipe's `loss` says which."""

    def align(self, recipe: DpoRecipe, artifact: Artifact) -> None:
        """Train through TRL; measured by the preference on held-out pairs."""
        from llmctl.training import direct

        direct.align(recipe, artifact)

    def tokens_at_once(self, recipe: DpoRecipe) -> int:
        """Labelled answers go through one by one."""
        return super().tokens_at_once(recipe) // (2 if recipe.loss in UNPAIRED else 1)

    def logits_at_once(self, recipe: DpoRecipe, words: int) -> int:
        """TRL's older trainers make them whole."""
        if recipe.loss in REFERENCE_FREE:
            return self.tokens_at_once(recipe) * words
        return super().logits_at_once(recipe, words)
