"""Embedding: vectors of questions near the vectors of the texts that answer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.schema.base import Part
from llmctl.schema.keywords import Keywords
from llmctl.tuning._pairs import PairTask

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.sft import SftRecipe


PAIRS_ONLY = ("negatives", "mini_batch")
"""Keys that say nothing when the order of a search is learnt."""


class Teacher(Part):
    """The hybrid search whose order is learnt; see `retrieve` for what its numbers do."""

    candidates: int = Field(
        100, ge=2, le=1000, description="Texts of each query whose order is learnt."
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="Share of the vectors; 0 is words, 1 is vectors."
    )
    smoothing: float = Field(
        0.5, ge=0, le=1, description="Share of a text's score that comes from similar candidates."
    )
    temperature: float = Field(
        0.05,
        gt=0,
        le=10,
        description="Divides scores and cosines: smaller looks at the best texts alone.",
    )
    keywords: Keywords = Field(
        default_factory=lambda: Keywords.model_validate({}), description="How words are indexed."
    )


class EmbeddingTask(PairTask):
    """An embedding model learns from pairs of query and text, or from a search among the texts."""

    needs: ClassVar[dict[str, str]] = {
        "sentence-transformers": "train",
        "scipy": "train",
        "PyStemmer": "train",
    }

    teacher: Teacher | None = Field(
        None,
        description="With it, a linear layer after the model learns the order in which hybrid "
        "search puts the texts, in seconds on a CPU; without, all weights learn from the pairs.",
    )
    mini_batch: int = Field(
        32,
        ge=1,
        description="Pairs in memory at once; a larger `batch_size` is computed in such pieces "
        "with cached gradients (the loss is the same).",
    )
    interpolate: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the trained weights in the model that is written; the rest are those "
        "before training. Below 1 it forgets less of what it could.",
    )

    @model_validator(mode="after")
    def _means_something(self) -> Self:
        wrong = [key for key in PAIRS_ONLY if key in self.model_fields_set]
        if self.teacher is not None and wrong:
            raise ValueError(f"{wrong[0]} says nothing beside `teacher`: drop one of them")
        return self

    def tune(self, recipe: SftRecipe, artifact: Artifact) -> None:
        """Train all weights; measured by nDCG@10 and MRR of held-out queries."""
        from llmctl.training import embedding

        embedding.tune(recipe, self, artifact)
