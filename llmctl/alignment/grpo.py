"""GRPO: an answer's advantage is its reward against its group's mean, in units of its spread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from pydantic import Field

from llmctl.alignment._groups import GroupObjective

if TYPE_CHECKING:
    from llmctl.schema.dpo import DpoRecipe

CLIPPED = ("grpo", "dr_grpo", "dapo", "bnpo", "luspo")
"""Variants that clip the ratio on both sides; sapo and vespo fade it out instead."""
BY_ANSWER = ("grpo", "sapo", "luspo")
"""Variants that give each answer the same weight, as one ratio for a whole answer needs it."""


class GrpoObjective(GroupObjective):
    """Group relative policy optimisation (Shao et al. 2024) through TRL."""

    variant: Literal["grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"] = Field(
        "dapo",
        description="How token losses are averaged and ratios are held: dapo (Yu et al. 2025) is "
        "TRL's default, grpo is the paper's; cispo (MiniMax 2025), sapo, luspo and vespo are newer "
        "ones, which TRL's documentation names the papers of.",
    )
    clip_high: float | None = Field(
        None,
        gt=0,
        description="How far a ratio may rise, where that is not `clip` (dapo: 0.28); for cispo "
        "the largest ratio itself (Khatri et al. 2025 take 5).",
    )
    level: Literal["token", "sequence"] = Field(
        "token",
        description="Whether each token has a ratio of its own or an answer has one (GSPO, Zheng "
        "et al. 2025: sequence with variant grpo).",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group",
        description="What the advantages are divided by: the group's spread, the batch's, nothing.",
    )

    def refuse(self, recipe: DpoRecipe) -> None:
        """Keys that the variant does not read, and ratios that it cannot take."""
        super().refuse(recipe)
        if self.variant not in CLIPPED and "clip" in self.model_fields_set:
            raise ValueError(f"clip has no effect on variant: {self.variant}; drop it")
        if self.variant == "cispo" and (self.clip_high is None or self.clip_high < 1):
            raise ValueError("variant: cispo needs clip_high, the largest ratio: set clip_high: 5")
        if self.variant in ("sapo", "vespo") and self.clip_high is not None:
            raise ValueError(f"clip_high has no effect on variant: {self.variant}; drop it")
        if self.level == "sequence" and self.variant not in BY_ANSWER:
            raise ValueError(f"level: sequence is for variant: {', '.join(BY_ANSWER)}")
        if self.level == "token" and self.variant == "luspo":
            raise ValueError("variant: luspo is made for level: sequence; set it")
