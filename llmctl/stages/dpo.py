"""dpo: pairs or labelled answers -> a model that prefers the better ones, with its figures."""

from __future__ import annotations

from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe


def run(recipe: DpoRecipe, artifact: Artifact) -> None:
    """Align the recipe's model; the artifact has model/, metrics.jsonl and report.html."""
    from llmctl.training import launch

    launch.started(recipe, artifact, _align)


def _align(recipe: DpoRecipe, artifact: Artifact) -> None:
    from llmctl.training import direct  # what it imports speaks up unless it is told not to

    direct.align(recipe, artifact)
