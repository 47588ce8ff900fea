"""Direct: pairs or labelled answers teach the model itself, with no reward and no sampling."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llmctl.alignment.base import Objective

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


class DirectObjective(Objective):
    """DPO (Rafailov et al. 2023) and its family; the recipe's `loss` says which."""

    def align(self, recipe: DpoRecipe, artifact: Artifact) -> None:
        """Train through TRL; measured by the preference on held-out pairs."""
        from llmctl.training import direct

        direct.align(recipe, artifact)
