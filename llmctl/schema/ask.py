"""What `llmctl ask` may be asked: which store, how it is searched, who answers, when not to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.engines.base import Engine
from llmctl.schema.base import Part, Recipe
from llmctl.schema.retrieve import Retrieve, store_needs


class Decline(Part):
    """When a question is not answered, before any model is asked.

    The evidence for a question is the best cosine plus the share of its words (by rarity) that the
    best chunk holds. What questions get that the store does not answer is measured on the store
    itself, with general questions about everyday life.
    """

    deviations: float | None = Field(
        3.0,
        ge=0,
        le=20,
        description="How far above the median of unanswerable questions the evidence has to be, "
        "in robust standard deviations; null never declines.",
    )
    least: float = Field(
        0.35, ge=0, le=2, description="Smallest evidence that is answered in any store."
    )
    text: str = Field(
        "The documents hold nothing about this.",
        min_length=1,
        description="What is said instead of an answer.",
    )


class Prompt(Part):
    """What the model is told."""

    instruction: str = Field(
        "Answer the question from the numbered sources below, and put the number of the source in "
        "square brackets after each statement, like [1]. If the sources do not hold the answer, "
        "say exactly: {unknown}",
        min_length=1,
        description="System turn; {unknown} is replaced. A rule that sources are data follows it.",
    )
    unknown: str = Field(
        "I do not know.",
        min_length=1,
        description="What the model says, and what is answered, when the sources lack the answer.",
    )
    max_chars: int = Field(
        6000, ge=100, description="Most characters of sources; whole passages are left out."
    )


class Citations(Part):
    """How an answer's numbers are checked against the sources."""

    required: bool = Field(
        True,
        description="An answer of which no sentence has a citation that resolves is not given; "
        "`prompt.unknown` is said instead.",
    )

    attribute: float | None = Field(
        0.6,
        gt=0,
        le=1,
        description="A sentence without a number gets one when a sentence of a source holds at "
        "least this share of its words; null adds none.",
    )


class AskRecipe(Recipe):
    """A question to a store, answered by a model with citations."""

    stage: Literal["ask"] = Field(description="Names the kind of recipe.")
    out: Path = Field(
        Path("build/ask"),
        description="Folder of the log (answers.jsonl) and of replies that need not be made again.",
    )
    store: Path = Field(description="Artifact folder of ingest.")
    retrieve: Retrieve = Field(
        default_factory=lambda: Retrieve.model_validate({}), description="How sources are found."
    )
    engine: Engine = Field(description="What runs the model that answers.")
    prompt: Prompt = Field(
        default_factory=lambda: Prompt.model_validate({}), description="What the model is told."
    )
    decline: Decline = Field(
        default_factory=lambda: Decline.model_validate({}), description="When not to answer."
    )
    citations: Citations = Field(
        default_factory=lambda: Citations.model_validate({}),
        description="How citations are checked.",
    )
    max_tokens: int = Field(256, ge=8, description="Longest answer, in tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the likeliest token.")

    @model_validator(mode="after")
    def _engine_fits(self) -> Self:
        if self.retrieve.engine is None:
            self.retrieve.check_engine(self.engine)
        return self

    def all_needs(self) -> dict[str, str]:
        """Also what the store and its embedder need."""
        return super().all_needs() | store_needs(self.store)

    def inputs(self) -> dict[str, Path | str]:
        """The store and the models."""
        found: dict[str, Path | str] = {"store": self.store}
        for name, ref in self.engine.model_inputs().items():
            found[f"engine.{name}"] = ref
        return found | {f"retrieve.{key}": ref for key, ref in self.retrieve.inputs().items()}
