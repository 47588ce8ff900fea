"""What grpo and rloo share: several answers to each prompt, compared with each other."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from pydantic import Field

from llmctl.alignment._online import OnlineObjective

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


class GroupObjective(OnlineObjective):
    """Answers to one prompt are each other's baseline: no value model is needed."""

    generations: int = Field(8, ge=2, description="Answers to each prompt in a step.")
    iterations: int = Field(1, ge=1, description="Optimizer steps on the same answers.")
    vllm: bool = Field(
        False, description="Sample through vLLM in this process (needs the extra vllm and a GPU)."
    )

    def align(self, recipe: DpoRecipe, artifact: Artifact) -> None:
        """Train through TRL; measured by the reward on held-out prompts."""
        from llmctl.training import groups

        groups.align(recipe, self, artifact)

    def steps_of(self, recipe: DpoRecipe, rows: int) -> int:
        """Whole rounds of answers only, each learnt from `iterations` times."""
        groups = rows // (recipe.rows_a_step() // self.generations)
        return max(math.ceil(recipe.epochs * groups * self.iterations), 1)

    def refuse(self, recipe: DpoRecipe) -> None:
        """A step holds whole groups, and a checkpoint whole rounds of the same answers."""
        super().refuse(recipe)
        rows = recipe.batch_size * recipe.gradient_accumulation
        if rows % self.generations:
            raise ValueError(
                f"a step has {rows} answers (batch_size x gradient_accumulation), which is no "
                f"multiple of generations {self.generations}; set batch_size: {self.generations}"
            )
        if recipe.save_every % self.iterations:
            raise ValueError(
                f"save_every {recipe.save_every} is no multiple of iterations {self.iterations}: "
                f"a continued run would sample other answers"
            )
