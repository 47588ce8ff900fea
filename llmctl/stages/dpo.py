"""dpo: pairs or labelled answers -> a model that prefers the better ones, with its figures."""

from __future__ import annotations

from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe


def run(recipe: DpoRecipe, artifact: Artifact) -> None:
    """Align the recipe's model; the artifact has model/, metrics.jsonl and report.html."""
    from llmctl.training import quiet

    with quiet.libraries():
        from llmctl.training import config, direct  # what they import speaks up unless it is told

        config.check_machine(recipe)
        direct.align(recipe, artifact)
