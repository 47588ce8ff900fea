"""RLOO: an answer's baseline is the mean reward of the other answers to its prompt."""

from __future__ import annotations

from pydantic import Field

from llmctl.alignment._groups import GroupObjective


class RlooObjective(GroupObjective):
    """REINFORCE leave-one-out (Ahmadian et al. 2024) through TRL; the KL is part of the reward."""

    normalise: bool = Field(
        False, description="Bring a step's advantages to mean 0 and deviation 1."
    )
