"""Embedding: vectors of questions near the vectors of the texts that answer them."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from llmctl.tuning._pairs import PairTask

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.sft import SftRecipe


class EmbeddingTask(PairTask):
    """An embedding model learns from (query, text) pairs, through sentence-transformers."""

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "train", "scipy": "train"}

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

    def tune(self, recipe: SftRecipe, artifact: Artifact) -> None:
        """Train all weights; measured by nDCG@10 and MRR of held-out queries."""
        from llmctl.training import embedding

        embedding.tune(recipe, self, artifact)
