"""Writing: the next token of conversations or of raw text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llmctl.data.formats.base import text
from llmctl.records import check_example
from llmctl.tuning.base import Task

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.sft import SftRecipe


class CausalTask(Task):
    """A language model learns the next token, through TRL."""

    def check(self, row: dict[str, Any], where: str) -> None:
        """A conversation, or a text."""
        if "text" in row and "messages" not in row:
            text(row, "text", where)
        else:
            check_example(row, where)

    def tune(self, recipe: SftRecipe, artifact: Artifact) -> None:
        """Train an adapter or all weights; measured by the held-out loss."""
        from llmctl.training import causal

        causal.tune(recipe, artifact)
