"""Reranker: question and text read together, one number for how well the text answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field, field_validator

from llmctl.rag.embedders.base import Embedder
from llmctl.tuning._pairs import Negatives, PairTask

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.sft import SftRecipe


class RerankerTask(PairTask):
    """A cross-encoder learns to put the right text above those that search finds beside it.

    The model may be an encoder of any kind: one without a head gets a new one.
    """

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "train", "scipy": "train"}

    negatives: Negatives = Field(
        default_factory=lambda: Negatives.model_validate({"count": 3, "mined_by": ["dense"]}),
        description="Hard negatives.",
    )
    embedder: Embedder = Field(
        default_factory=lambda: Embedder.of("sentence_transformers"),
        description="Whose vectors propose hard negatives, and whose order the tuned model is "
        "measured against.",
    )
    random_negatives: int = Field(
        2,
        ge=0,
        le=64,
        description="Texts of other pairs of the batch that each query is shown beside its own.",
    )
    candidates: int = Field(
        20,
        ge=2,
        le=1000,
        description="Nearest texts of a held-out query that are put in order to measure.",
    )

    @field_validator("negatives")
    @classmethod
    def _some(cls, value: Negatives) -> Any:
        if not value.count:
            raise ValueError("a reranker learns from hard negatives; set count to 1 or more")
        return value

    def inputs(self) -> dict[str, Path | str]:
        """The embedder's model."""
        return {f"embedder.{key}": ref for key, ref in self.embedder.models().items()}

    def tune(self, recipe: SftRecipe, artifact: Artifact) -> None:
        """Train all weights; measured by nDCG@10 and MRR of held-out queries."""
        from llmctl.training import reranker

        reranker.tune(recipe, self, artifact)
