"""What `llmctl dpo` may be asked."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.schema.training import TrainingRecipe


class DpoRecipe(TrainingRecipe):
    """Direct preference optimisation: pairs of answers in, a model that prefers the better out."""

    stage: Literal["dpo"] = Field(description="Names the stage.")
    method: Literal["lora", "qlora"] = Field(
        "lora", description="Train a small adapter; with qlora the frozen base is in 4 bits."
    )
    loss: Literal["sigmoid", "ipo", "hinge", "robust"] = Field(
        "sigmoid", description="The preference loss; sigmoid is DPO as published."
    )
    beta: float = Field(
        0.1, gt=0, description="How strongly the model is held to where it began; higher, closer."
    )
    label_smoothing: float = Field(
        0.0,
        ge=0,
        lt=0.5,
        description="Share of pairs assumed to be labelled the wrong way (loss: robust).",
    )
    precompute_reference: bool = Field(
        False,
        description="Compute the starting model's log-probabilities once before training; pays "
        "from the second epoch on.",
    )
    learning_rate: float = Field(5e-5, gt=0, lt=1, description="Peak learning rate of AdamW.")

    @model_validator(mode="after")
    def _pairs_stay_whole(self) -> Self:
        if self.too_long == "split":
            raise ValueError("too_long: split would part an answer from its rival; use drop")
        return self

    @model_validator(mode="after")
    def _smoothing_is_used(self) -> Self:
        if self.loss != "robust" and self.label_smoothing > 0:
            raise ValueError(f"label_smoothing has no effect on loss: {self.loss}; use robust")
        return self
