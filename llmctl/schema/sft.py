"""What `llmctl sft` may be asked."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmctl.schema.training import TrainingRecipe


class SftRecipe(TrainingRecipe):
    """Supervised fine-tuning: conversations in, an adapter and a merged model out."""

    stage: Literal["sft"] = Field(description="Names the stage.")
    method: Literal["lora", "full"] = Field(
        "lora", description="Train a small adapter, or every weight of the model."
    )
    loss_on: Literal["assistant", "all"] = Field(
        "assistant",
        description="Tokens that are learnt: the assistant's turns with their end-of-turn token, "
        "or everything.",
    )
    packing: bool = Field(
        True,
        description="Fill each sequence with several rows, none of which sees another; off, rows "
        "are padded to the longest of their batch.",
    )
