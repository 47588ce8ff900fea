"""What the objectives that sample answers share: rewards, rollouts, and when to stop."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.alignment.base import Objective
from llmctl.records import check_prompt
from llmctl.rewards.base import Reward
from llmctl.schema.losses import DIRECT_KEYS

if TYPE_CHECKING:
    from llmctl.schema.dpo import DpoRecipe


class OnlineObjective(Objective):
    """The model writes answers, rewards rate them, and what was rated higher becomes likelier."""

    unused: ClassVar[tuple[str, ...]] = (
        *DIRECT_KEYS, "loss", "eval_every", "auto_batch", "checks",
    )  # fmt: skip

    rewards: list[Reward] = Field(
        min_length=1, description="What an answer is worth; the weighted sum counts."
    )
    max_new_tokens: int = Field(128, ge=1, description="Longest answer that is sampled, in tokens.")
    temperature: float = Field(1.0, gt=0, le=2, description="Temperature of the samples.")
    clip: float = Field(
        0.2, gt=0, lt=1, description="How far a ratio of probabilities may move (Schulman 2017)."
    )
    stop_kl: float | None = Field(
        None,
        gt=0,
        description="End the run when the KL to the reference exceeds this, in nats a token.",
    )
    stop_length: float | None = Field(
        None,
        gt=1,
        description="End the run when answers are this many times longer or shorter than "
        "those of the first steps.",
    )

    def check(self, recipe: DpoRecipe, row: dict[str, Any], where: str) -> None:
        """A prompt, alone or in a row of another form."""
        check_prompt({"prompt": row.get("messages"), **row}, where)

    def inputs(self) -> dict[str, Path | str]:
        """The models of the rewards."""
        return {
            f"rewards.{n}.{key}": each
            for n, reward in enumerate(self.rewards)
            for key, each in reward.model_inputs().items()
        }

    def tokens_at_once(self, recipe: DpoRecipe) -> int:
        """Each prompt with one answer; `max_length` is the prompt's."""
        return recipe.batch_size * (recipe.max_length + self.max_new_tokens)

    def refuse(self, recipe: DpoRecipe) -> None:
        """Prompts are not cut: an answer to half a question teaches nothing."""
        if recipe.too_long != "drop":
            raise ValueError(f"too_long: {recipe.too_long} would cut prompts; use drop")
        if recipe.adapter is not None and recipe.adapter.how == "continue":
            raise ValueError("adapter.how: continue has no frozen reference here; use stack")
        if "max_tokens" in recipe.answers.model_fields_set:
            raise ValueError("answers.max_tokens: answers are as long as objective.max_new_tokens")
        if recipe.answers.rows and recipe.answers.judge is None:
            raise ValueError(
                "answers.rows counts what answers.judge compares; KL and length are measured on "
                "all held-out prompts here"
            )
