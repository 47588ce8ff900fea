"""The keys that every training stage has: the model, the rows, the adapter, the optimizer."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.schema.method import MethodKeys
from llmctl.schema.parts import ModelRef, TrainData

Scheduler = Literal["linear", "cosine", "constant", "constant_with_warmup"]
Precision = Literal["auto", "fp32", "bf16"]


class TrainingRecipe(MethodKeys):
    """What sft and dpo share."""

    needs: ClassVar[dict[str, str]] = {
        "torch": "train",
        "transformers": "train",
        "trl": "train",
        "peft": "train",
        "accelerate": "train",
        "datasets": "train",
    }

    model: ModelRef
    data: TrainData = Field(description="Rows to learn from, and rows to measure with.")
    epochs: float = Field(1, gt=0, description="Passes over the rows; `max_steps` may end earlier.")
    max_steps: int | None = Field(
        None, ge=1, description="Optimizer steps; when set it decides instead of `epochs`."
    )
    batch_size: int = Field(1, ge=1, description="Rows (or packs of rows) in one forward pass.")
    gradient_accumulation: int = Field(
        4, ge=1, description="Forward passes that are summed into one optimizer step."
    )
    learning_rate: float = Field(2e-4, gt=0, lt=1, description="Peak learning rate of AdamW.")
    scheduler: Scheduler = Field("cosine", description="How the learning rate falls.")
    warmup: float = Field(0.1, ge=0, lt=1, description="Share of all steps spent warming up.")
    weight_decay: float = Field(0.0, ge=0, description="AdamW's decay, per step and unit of rate.")
    max_grad_norm: float = Field(1.0, gt=0, description="Longer gradients are scaled to this norm.")
    max_length: int = Field(512, ge=16, description="Longest row (or pack of rows), in tokens.")
    too_long: Literal["drop", "truncate"] = Field(
        "drop",
        description="What happens to a row over `max_length`: left out and listed in "
        "dropped.jsonl, or cut at its end (it then loses its end of turn).",
    )
    precision: Precision = Field(
        "auto",
        description="Arithmetic of the forward pass; auto is bf16 on a GPU that has it, fp32 on a "
        "CPU. The weights and the optimizer stay in fp32.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Recompute activations in the backward pass: less memory, more time."
    )
    save_every: int = Field(
        20, ge=1, description="Optimizer steps between checkpoints: what a kill can cost."
    )

    def inputs(self) -> dict[str, Path | str]:
        """The model and the files of rows."""
        found: dict[str, Path | str] = {"model": self.model, "data.train": self.data.train}
        found |= super().inputs()
        if self.data.validation is not None:
            found["data.validation"] = self.data.validation
        return found

    def estimate(self) -> dict[str, str]:
        """What one optimizer step reads, in rows and tokens at most."""
        rows = self.batch_size * self.gradient_accumulation
        lines = {"one step": f"{rows} rows, at most {rows * self.max_length} tokens"}
        if self.max_steps is not None:
            lines["steps"] = f"{self.max_steps}, a checkpoint each {self.save_every}"
        return lines
