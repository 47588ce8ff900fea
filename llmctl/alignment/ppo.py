"""PPO: a policy with a value head against rewards, held to its start by a KL penalty."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from llmctl.alignment._online import OnlineObjective

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


class PpoObjective(OnlineObjective):
    """Proximal policy optimisation (Schulman et al. 2017) as InstructGPT uses it (Ouyang 2022)."""

    unused: ClassVar[tuple[str, ...]] = (
        *OnlineObjective.unused,
        "gradient_accumulation",
        "neftune_alpha",
        "torch_compile",
        "liger_kernel",
        "patience",
        "keep_best",
        "samples",
    )

    rollouts: int = Field(16, ge=2, description="Answers that are sampled in a step.")
    passes: int = Field(4, ge=1, description="Passes over them, in batches of `batch_size`.")
    discount: float = Field(1.0, gt=0, le=1, description="Worth of a reward one token later.")
    trace: float = Field(
        0.95, ge=0, le=1, description="lambda of the advantages (GAE, Schulman et al. 2016)."
    )
    whiten: bool = Field(True, description="Bring a step's advantages to mean 0, deviation 1.")
    value_clip: float = Field(
        0.2, gt=0, description="How far a value may move from the one at sampling."
    )
    value_weight: float = Field(0.1, ge=0, description="Weight of the value head's loss.")
    entropy_weight: float = Field(0.0, ge=0, description="Weight of the policy's entropy.")
    target_kl: float | None = Field(
        None,
        gt=0,
        description="KL of a whole answer, in nats, that `beta` is adapted to (Ziegler et al. "
        "2019, 2.2); without it beta stays.",
    )
    horizon: int = Field(
        1000, ge=1, description="Answers over which beta follows `target_kl`; fewer, faster."
    )

    def align(self, recipe: DpoRecipe, artifact: Artifact) -> None:
        """Train in our own loop; measured by the reward on held-out prompts."""
        from llmctl.training.ppo import stage

        stage.align(recipe, self, artifact)

    def steps_of(self, recipe: DpoRecipe, rows: int) -> int:
        """How many times answers are sampled."""
        return math.ceil(recipe.epochs * rows / self.rollouts)

    def logits_at_once(self, recipe: DpoRecipe, words: int) -> int:
        """Those of the answers, whole."""
        return recipe.batch_size * self.max_new_tokens * words

    def refuse(self, recipe: DpoRecipe) -> None:
        """Batches are whole, and the loop has one optimizer step for each of them."""
        super().refuse(recipe)
        if self.rollouts % recipe.batch_size:
            raise ValueError(
                f"rollouts {self.rollouts} is no multiple of batch_size {recipe.batch_size}"
            )
        if recipe.launch.processes > 1:
            raise ValueError("objective: ppo runs in one process; several can use grpo or rloo")
        if recipe.method == "qlora":
            raise ValueError("objective: ppo trains method lora or full")
