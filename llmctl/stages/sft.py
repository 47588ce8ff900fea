"""sft: rows -> a tuned model, with what it could before and after on rows that were held out."""

from __future__ import annotations

from llmctl.artifact import Artifact
from llmctl.schema.sft import SftRecipe


def run(recipe: SftRecipe, artifact: Artifact) -> None:
    """Tune the recipe's model; the artifact has model/, metrics.jsonl and report.html."""
    from llmctl.training import launch

    launch.started(recipe, artifact, recipe.task.tune)
