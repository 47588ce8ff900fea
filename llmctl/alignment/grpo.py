"""GRPO: an answer's advantage is its reward against its group's mean, in units of its spread."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmctl.alignment._groups import GroupObjective


class GrpoObjective(GroupObjective):
    """Group relative policy optimisation (Shao et al. 2024) through TRL."""

    variant: Literal["grpo", "dr_grpo", "dapo", "bnpo"] = Field(
        "dapo",
        description="How token losses are averaged; dapo (Yu et al. 2025) is TRL's default, grpo "
        "is the paper's.",
    )
    scale_rewards: Literal["group", "batch", "none"] = Field(
        "group",
        description="What the advantages are divided by: the group's spread, the batch's, nothing.",
    )
