"""Reward: a model that gives an answer one number, learnt from pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from llmctl.alignment.base import Objective
from llmctl.records import check_pair
from llmctl.schema.losses import DIRECT_KEYS

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dpo import DpoRecipe


class RewardObjective(Objective):
    """A reward model: the better answer of a pair gets the higher number (Bradley and Terry 1952).

    Its loss is -log s(r(better) - r(worse) - margin) (Ouyang et al. 2022, eq. 1; Touvron et al.
    2023, eq. 2).
    """

    unused: ClassVar[tuple[str, ...]] = (
        *DIRECT_KEYS, "answers", "loss", "beta", "samples", "eval_every", "regression",
    )  # fmt: skip

    margin: Literal["none", "scores"] = Field(
        "none",
        description="scores: the rewards have to differ by what the rows' scores differ by "
        "(`meta.scores`, as UltraFeedback has them).",
    )
    center: float = Field(
        0.0,
        ge=0,
        description="Weight of the squared sum of the two rewards, which keeps them around zero "
        "(Eisenstein et al. 2023, eq. 2); 0.01 is usual.",
    )

    def check(self, recipe: DpoRecipe, row: dict[str, Any], where: str) -> None:
        """A pair."""
        check_pair(row, where)

    def align(self, recipe: DpoRecipe, artifact: Artifact) -> None:
        """Train through TRL; measured by the accuracy on held-out pairs."""
        from llmctl.training import reward_model

        reward_model.align(recipe, self, artifact)

    def logits_at_once(self, recipe: DpoRecipe, words: int) -> int:
        """The head gives one number."""
        return 0

    def refuse(self, recipe: DpoRecipe) -> None:
        """Only adapters that can be merged into a model of full precision."""
        if recipe.method == "qlora" or recipe.adapter is not None:
            raise ValueError("objective: reward trains method lora or full, from a model's weights")
        if recipe.checks.likelihood:
            raise ValueError(
                "checks.likelihood asks a model that writes; objective: reward can use checks.judge"
            )
