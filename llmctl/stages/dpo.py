"""dpo: pairs, labels or rewards -> a model that follows them, with its figures."""

from __future__ import annotations

import os

from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe


def run(recipe: DpoRecipe, artifact: Artifact) -> None:
    """Align the recipe's model; the artifact has model/, metrics.jsonl and report.html."""
    from llmctl.training import launch, regression

    launch.started(recipe, artifact, recipe.objective.align)
    if launch.INSIDE not in os.environ:
        regression.measure(recipe, artifact)
