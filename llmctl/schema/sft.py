"""What `llmctl sft` may be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.schema.method import PARTS, UNMERGED, Ia3, Prefix, Prompt
from llmctl.schema.training import TrainingRecipe
from llmctl.tuning.base import Task

CAUSAL_ONLY = (
    "loss_on",
    "packing",
    "padding_free",
    "too_long",
    "gradient_checkpointing",
    "samples",
    "auto_batch",
    "neftune_alpha",
    "liger_kernel",
    "launch",
    "save_dtype",
)
"""Keys that say nothing to an encoder: its rows are one text each, cut at `max_length`."""
OF_CLASSIFIER = {"version", "out", "seed", "stage", "model", "data", "task", "max_length"}
"""Keys of task classifier: its head is solved for, so nothing about steps means anything."""


class SftRecipe(TrainingRecipe):
    """Supervised fine-tuning: rows in, a tuned model out."""

    stage: Literal["sft"] = Field(description="Names the stage.")
    task: Task = Field(
        default_factory=lambda: Task.of("causal"),
        description="What the model learns: causal (to write), embedding (to find), reranker (to "
        "put in order) or classifier (to score or sort texts).",
    )
    prompt: Prompt = Field(
        default_factory=lambda: Prompt.model_validate({}), description="The soft prompt."
    )
    prefix: Prefix = Field(
        default_factory=lambda: Prefix.model_validate({}), description="The prefix."
    )
    ia3: Ia3 = Field(default_factory=lambda: Ia3.model_validate({}), description="The factors.")
    loss_on: Literal["assistant", "last", "all"] = Field(
        "assistant",
        description="Tokens that are learnt: the assistant's turns with their end-of-turn token, "
        "the last of them, or everything. A message with `train: false` or `weight: 0` (OpenAI's) "
        "is never learnt.",
    )
    packing: bool = Field(
        True,
        description="Fill each sequence with several rows, none of which sees another; off, rows "
        "are padded to the longest of their batch.",
    )

    padding_free: bool = Field(
        False,
        description="Without packing: lay a batch's rows end to end instead of padding them; none "
        "sees another.",
    )

    @model_validator(mode="after")
    def _one_way_of_batching(self) -> Self:
        if self.padding_free and self.packing:
            raise ValueError("padding_free: packs have no padding already; write packing: false")
        if self.padding_free and self.method in UNMERGED:
            raise ValueError(
                f"padding_free: method: {self.method} needs each row by itself; drop it"
            )
        return self

    @model_validator(mode="after")
    def _has_weights_to_save(self) -> Self:
        if self.method in UNMERGED and "save_dtype" in self.model_fields_set:
            raise ValueError(
                f"save_dtype says nothing to method: {self.method}, which saves no weights of the "
                "model; drop it"
            )
        return self

    @model_validator(mode="after")
    def _can_be_cut(self) -> Self:
        """Refuse beside `launch.strategy: tensor` what cut matrices have not been seen to learn."""
        if self.launch.strategy != "tensor":
            return self
        if self.method != "full":
            raise ValueError(
                f"launch.strategy: tensor has no method: {self.method}; write method: full, or use "
                "fsdp"
            )
        if self.optimizer.kind != "adamw":
            raise ValueError("launch.strategy: tensor goes with optimizer: adamw; or use fsdp")
        for key in ("torch_compile", "liger_kernel"):
            if getattr(self, key):
                raise ValueError(f"{key} does not go with launch.strategy: tensor; use fsdp")
        return self

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        if self.task.kind == "causal":
            if self.method in UNMERGED and self.packing:
                raise ValueError(
                    f"method: {self.method} puts its vectors before every row, which a pack has no "
                    "room for; write packing: false"
                )
            return self
        if self.task.kind == "classifier":
            if strange := sorted(self.model_fields_set - OF_CLASSIFIER):
                raise ValueError(f"{strange[0]} says nothing to task classifier; drop it")
            for key in ("format", "mix"):
                if getattr(self.data, key):
                    raise ValueError(f"data.{key} says nothing to task classifier; drop it")
            return self
        for key in (*CAUSAL_ONLY, *PARTS):
            if key in self.model_fields_set:
                raise ValueError(f"{key} is a key of task causal, not of {self.task.kind}; drop it")
        if self.data.format is not None:
            raise ValueError(f"data.format is a key of task causal, not of {self.task.kind}")
        if "method" in self.model_fields_set and self.method != "full":
            raise ValueError(f"task {self.task.kind} trains every weight; write method: full")
        return self

    def look(self) -> None:
        """The rows, as the task wants them."""
        self.task.look(self.data)

    def inputs(self) -> dict[str, Path | str]:
        """Also what the task needs."""
        return super().inputs() | {f"task.{k}": ref for k, ref in self.task.inputs().items()}
