"""What may be asked of `build-dataset`: from what, by which builders, kept by which filters."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.data.builders.base import Builder
from llmctl.data.filters.base import Filter
from llmctl.data.formats.base import Format
from llmctl.data.selectors.base import Selector
from llmctl.schema.base import Part, Recipe
from llmctl.schema.judging import Judging
from llmctl.schema.parts import ModelRef, Paths
from llmctl.schema.publishing import Card, Export, Push


class Split(Part):
    """How rows are divided; what stands together in a group is never on two sides."""

    validation: float = Field(0.1, ge=0, lt=1, description="Share of the groups for validation.")
    test: float = Field(0.15, ge=0, lt=1, description="Share of the groups for test.")
    by: Literal["document", "section"] = Field(
        "document",
        description="What a group is: a whole document, or one source span. Rows of a file that "
        "names no documents stand together when they begin with the same question.",
    )
    group_by: str | None = Field(
        None,
        min_length=1,
        description="Field of the rows (dotted; in `meta` too) whose value is the group; it "
        "decides instead of `by`.",
    )

    @model_validator(mode="after")
    def _train_is_left(self) -> Self:
        if self.validation + self.test >= 1:
            raise ValueError("validation and test together leave nothing to train on")
        return self


ASKING = ("engine", "engines", "strong", "judge")
"""Keys of steps that may ask a model."""


class BuildDatasetRecipe(Recipe):
    """Documents, chunks or rows in, training data with its source spans out."""

    impl: ClassVar[int] = 2

    stage: Literal["build-dataset"] = Field(description="Names the stage.")
    source: Paths = Field(
        description="Artifact folder of ingest; file, folder or pattern of rows (examples, pairs, "
        "texts, documents or chunks); or a list of them.",
    )
    format: Format | None = Field(
        None,
        description="Format of a source that another tool wrote; without it the rows tell it.",
    )
    builders: list[Builder] = Field(
        default_factory=list,
        description="Steps that make rows from documents and chunks, or new rows from the rows so "
        "far, in order; none when the source has rows already.",
    )
    filters: list[Filter] = Field(
        default_factory=lambda: [Filter.of("length"), Filter.of("duplicate")],
        description="What rows have to pass, in order.",
    )
    judges: list[Judging] = Field(
        default_factory=list,
        description="Who judges the rows that passed; rows that are judged low leave.",
    )
    select: list[Selector] = Field(
        default_factory=list, description="Which of the rows stay, one choice after another."
    )
    split: Split = Field(
        default_factory=lambda: Split.model_validate({}), description="How rows are divided."
    )
    card: Card = Field(
        default_factory=lambda: Card.model_validate({}),
        description="What README.md, the dataset card, says that the rows do not.",
    )
    export: Export | None = Field(None, description="A copy of the rows for other tools.")
    push: Push | None = Field(None, description="Upload to the Hugging Face Hub.")
    tokenizer: ModelRef | None = Field(
        None, description="Model in whose tokens the report counts lengths; none counts words."
    )

    max_failures: float = Field(
        0.05, ge=0, le=1, description="Share of the calls of models that may fail for good."
    )
    max_calls: int | None = Field(
        None, ge=1, description="Calls of models in one run; answers from the cache are free."
    )
    max_cost: float | None = Field(
        None, gt=0, description="Money for models in one run, by the engines' `price`."
    )
    max_minutes: float | None = Field(
        None, gt=0, description="Minutes of one run after which no model is called."
    )

    @model_validator(mode="after")
    def _steps_fit(self) -> Self:
        """Each builder gets the form that it works on, and all rows have one form at the end."""
        form = ""
        for number, each in enumerate(self.builders):
            before = self.builders[number - 1].kind if number else ""
            if each.reads and form and form not in each.reads:
                raise ValueError(
                    f"{each.kind} works on {' or '.join(each.reads)}, {before} makes {form}"
                )
            if not each.reads and form and form != each.form:
                names = ", ".join(f"{b.kind} makes {b.form or form}" for b in self.builders)
                raise ValueError(f"one recipe makes rows of one form ({names})")
            form = each.form or form
        return self

    @model_validator(mode="after")
    def _judges_have_names(self) -> Self:
        titles = [each.title for each in self.judges]
        twice = {title for title in titles if titles.count(title) > 1}
        if twice:
            raise ValueError(f"two judges are named '{min(twice)}'; give them a `name`")
        return self

    def source_inputs(self) -> dict[str, Path | str]:
        """`source`, or `source.0`, `source.1` ... of a list."""
        if isinstance(self.source, Path):
            return {"source": self.source}
        return {f"source.{number}": each for number, each in enumerate(self.source)}

    def sources(self) -> list[Path]:
        """The files and folders of `source`."""
        return [self.source] if isinstance(self.source, Path) else self.source

    def estimate(self) -> dict[str, str]:
        """What the builders and judges would ask of models."""
        from llmctl.generation.rehearsal import estimate, members

        judges = [each for judging in self.judges for each in members(judging.judge)]
        steps = [*self.builders, *judges]
        if not any(hasattr(each, name) for each in steps for name in ASKING):
            return {}
        return estimate(self)

    def source_name(self) -> str:
        """The source as messages name it."""
        return ", ".join(map(str, self.source_inputs().values()))

    def all_needs(self) -> dict[str, str]:
        """Besides those of the steps, what writes Parquet and what uploads."""
        found = super().all_needs()
        if self.export is not None and self.export.file == "parquet":
            found["pyarrow"] = "parquet"
        if self.push is not None:
            found["huggingface-hub"] = "hub"
        return found

    def inputs(self) -> dict[str, Path | str]:
        """The sources, and the models and files of every step."""
        found = self.source_inputs()
        for key in ("builders", "filters", "select"):
            for number, each in enumerate(getattr(self, key)):
                for name, ref in each.model_inputs().items():
                    found[f"{key}.{number}.{name}"] = ref
        for number, judging in enumerate(self.judges):
            for name, ref in judging.inputs().items():
                found[f"judges.{number}.{name}"] = ref
        if self.tokenizer is not None:
            found["tokenizer"] = self.tokenizer
        return found

    def revisions(self) -> dict[str, str]:
        """The versions of the prompts that come with llmctl."""
        steps = {f"builders.{number}": each for number, each in enumerate(self.builders)}
        judges = {f"judges.{number}.judge": each.judge for number, each in enumerate(self.judges)}
        return {
            f"{key}.{name}": version
            for key, each in (steps | judges).items()
            for name, version in each.revisions().items()
        }
