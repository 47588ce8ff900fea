"""What may be asked of `build-dataset`: from what, by which builders, kept by which filters."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.data.builders.base import Builder
from llmctl.data.filters.base import Filter
from llmctl.schema.base import Part, Recipe


class Split(Part):
    """How rows are divided; what stands together in a group is never on two sides."""

    validation: float = Field(0.1, ge=0, lt=1, description="Share of the groups for validation.")
    test: float = Field(0.15, ge=0, lt=1, description="Share of the groups for test.")
    by: Literal["document", "section"] = Field(
        "document", description="What a group is: a whole document, or one source span."
    )

    @model_validator(mode="after")
    def _train_is_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


class BuildDatasetRecipe(Recipe):
    """Documents, chunks or rows in, training data with its source spans out."""

    stage: Literal["build-dataset"] = Field(description="Names the stage.")
    source: Path = Field(
        description="Artifact folder of ingest, or a file of rows (examples or pairs)."
    )
    builders: list[Builder] = Field(
        default_factory=list,
        description="What makes rows, one after another; none when the source has rows already.",
    )
    filters: list[Filter] = Field(
        default_factory=lambda: [Filter.of("length"), Filter.of("duplicate")],
        description="What rows have to pass, in order.",
    )
    split: Split = Field(
        default_factory=lambda: Split.model_validate({}), description="How rows are divided."
    )

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        forms = {builder.form for builder in self.builders}
        if len(forms) > 1:
            names = ", ".join(f"{b.kind} makes {b.form}" for b in self.builders)
            raise ValueError(f"one recipe makes examples or pairs, not both ({names})")
        return self

    def inputs(self) -> dict[str, Path | str]:
        """The source and the models of the builders."""
        found: dict[str, Path | str] = {"source": self.source}
        for number, builder in enumerate(self.builders):
            for name, ref in builder.model_inputs().items():
                found[f"builders.{number}.{name}"] = ref
        return found
