"""What may be asked of `quantize`: which model, which formats, how much quality may go."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from llmctl.quantizers.base import Quantizer
from llmctl.schema.base import Part, Recipe
from llmctl.schema.parts import ModelRef


class Gate(Part):
    """Limits that every file has to keep, else exit code 4."""

    max_perplexity_increase: float = Field(
        0.15, ge=0, description="Largest increase over the source, as a share of it."
    )
    min_agreement: float = Field(
        0.75, ge=0, le=1, description="Smallest share of equal likeliest tokens."
    )


class QuantizeRecipe(Recipe):
    """A model in, smaller files of it out, each compared with the source."""

    needs: ClassVar[dict[str, str]] = {"torch": "gguf", "transformers": "gguf"}

    stage: Literal["quantize"] = Field(description="Names the stage.")
    model: ModelRef
    method: Quantizer = Field(
        default_factory=lambda: Quantizer.of("gguf"), description="The format and its types."
    )
    name: str = Field(
        "model", pattern=r"^[A-Za-z0-9._-]+$", description="Beginning of the files' names."
    )
    evaluate_on: Path = Field(
        description="Text to measure on: a text file, a pattern such as docs/*.md, or rows with "
        "`text` or `messages`."
    )
    tokens: int = Field(
        512, ge=64, description="Tokens that are measured, in windows drawn with the seed."
    )
    window: int = Field(256, ge=32, description="Tokens of context; windows do not overlap.")
    prompt: str = Field(
        "What is the capital of France?", description="Question that each file has to answer."
    )
    gate: Gate = Field(
        default_factory=lambda: Gate.model_validate({}), description="Limits of quality."
    )

    @model_validator(mode="after")
    def _one_window(self) -> QuantizeRecipe:
        if self.tokens < self.window:
            raise ValueError(f"tokens ({self.tokens}) is less than one window ({self.window})")
        return self

    def inputs(self) -> dict[str, Path | str]:
        """The model and the text."""
        return {"model": self.model, "evaluate_on": self.evaluate_on}
