"""What `llmctl merge` may be asked: a base, adapters and models of it, and how they are joined."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.schema.base import Part, Recipe
from llmctl.schema.parts import ModelRef, WeightType

SPARSE = ("ties", "dare", "dare_ties")
"""Methods that leave most of a source's changes out."""


class MergeSource(Part):
    """An adapter of the base, or a model that was trained from it."""

    adapter: Path | None = Field(
        None, description="Artifact folder of sft or dpo, or a folder of PEFT."
    )
    model: ModelRef | None = Field(None, description="A model with the base's architecture.")
    weight: float | None = Field(
        None,
        ge=-10,
        le=10,
        description="Factor of its changes; by default 1 shared out evenly among the sources.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.adapter is None) == (self.model is None):
            raise ValueError("a source is either an adapter or a model; write one of them")
        return self


class MergeRecipe(Recipe):
    """Adapters and models of one base become one model."""

    needs: ClassVar[dict[str, str]] = {
        "torch": "train",
        "transformers": "train",
        "peft": "train",
        "safetensors": "train",
    }

    stage: Literal["merge"] = Field(description="Names the kind of recipe.")
    model: ModelRef = Field(description="The base that the sources were trained from.")
    sources: list[MergeSource] = Field(min_length=1, description="What is joined.")
    method: Literal["linear", "ties", "dare", "dare_ties"] = Field(
        "linear",
        description="linear adds the weighted changes; ties keeps each source's largest and, place "
        "by place, the sign that most agree on; dare drops changes at random and enlarges the "
        "rest; dare_ties drops at random and then agrees on signs.",
    )
    density: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of a source's changes that ties and dare keep.",
    )
    scale: float = Field(1.0, gt=0, le=10, description="Factor of the joined changes.")
    dequantize: bool | None = Field(
        None,
        description="Add to the base with the values that 4 bits stand for (nf4, double): what an "
        "adapter of qlora was trained on. null does it when a source's manifest says qlora.",
    )
    dtype: WeightType = Field("auto", description="Type of the saved weights; auto is the base's.")

    @model_validator(mode="after")
    def _density_is_used(self) -> Self:
        if "density" in self.model_fields_set and self.method not in SPARSE:
            raise ValueError("density says nothing to method: linear; use ties or dare")
        return self

    def inputs(self) -> dict[str, Path | str]:
        """The base and the sources."""
        found: dict[str, Path | str] = {"model": self.model}
        for number, source in enumerate(self.sources):
            if source.adapter is not None:
                found[f"sources.{number}.adapter"] = source.adapter
            if source.model is not None:
                found[f"sources.{number}.model"] = source.model
        return found

    def weights(self) -> list[float]:
        """The factor of each source."""
        even = 1 / len(self.sources)
        return [even if each.weight is None else each.weight for each in self.sources]

    def all_needs(self) -> dict[str, str]:
        """bitsandbytes when the base is dequantized for certain."""
        return super().all_needs() | ({"bitsandbytes": "train"} if self.dequantize else {})
