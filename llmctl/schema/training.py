"""The keys that every training stage has: the model, the rows, the adapter, the optimizer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.schema.loop import LoopKeys
from llmctl.schema.method import MethodKeys
from llmctl.schema.parts import ModelRef, TrainData, WeightType

TILE = 4096, 32768
"""Tokens and words of the largest table of logits that TRL makes at once (its fused LM head)."""


def tiled(tokens: int, words: int) -> int:
    """Numbers in that table."""
    return min(tokens, TILE[0]) * min(words, TILE[1])


class TrainingRecipe(MethodKeys, LoopKeys):
    """What sft and dpo share."""

    needs: ClassVar[dict[str, str]] = {
        "torch": "train",
        "transformers": "train",
        "trl": "train",
        "peft": "train",
        "accelerate": "train",
        "datasets": "train",
    }

    stage: str
    model: ModelRef
    data: TrainData = Field(description="Rows to learn from, and rows to measure with.")
    max_length: int = Field(512, ge=16, description="Longest row (or pack of rows), in tokens.")
    too_long: Literal["drop", "truncate", "split"] = Field(
        "drop",
        description="What happens to a row over `max_length`: left out and listed in "
        "dropped.jsonl, cut at its end (it then loses its end of turn), or made into several (a "
        "text at any token, a conversation between two exchanges).",
    )

    save_dtype: WeightType = Field(
        "auto",
        description="Type of the weights that are saved, merged or trained whole; auto is the "
        "base's. An adapter is saved as it was trained, in fp32.",
    )

    def inputs(self) -> dict[str, Path | str]:
        """The model and the files of rows."""
        found: dict[str, Path | str] = {"model": self.model, "data.train": self.data.train}
        found |= super().inputs()
        found |= {f"data.mix.{n}.path": each.path for n, each in enumerate(self.data.mix)}
        if self.data.validation is not None:
            found["data.validation"] = self.data.validation
        return found

    def steps_of(self, rows: int) -> int:
        """Optimizer steps of all epochs over so many rows (or packs)."""
        return math.ceil(max(math.ceil(rows / self.rows_a_step()), 1) * self.epochs)

    def tokens_at_once(self) -> int:
        """Most tokens that one forward pass has in one process."""
        return self.batch_size * self.max_length

    def logits_at_once(self, words: int) -> int:
        """Numbers in the largest table of logits over a vocabulary of so many words."""
        return tiled(self.tokens_at_once(), words)

    def estimate(self) -> dict[str, str]:
        """Steps, tokens, memory by its parts, disk; what would fit when it does not."""
        from llmctl import preflight

        return preflight.lines(self)
