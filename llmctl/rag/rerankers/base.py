"""The promise of a reranker: a number for each text, larger for a better answer."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from pydantic import Field

from llmctl.plugins import Backend

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.embedders.base import Live


class Reading(Protocol):
    """A loaded reranker."""

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """How well each text answers the question, float32, shape (texts,); any scale."""


class Reranker(Backend):
    """Reads question and candidate together; its scores are mixed with those of the search."""

    candidates: int = Field(20, ge=1, le=1000, description="Best candidates that are read again.")
    weight: float = Field(
        0.5, ge=0, le=1, description="Share of the reranker in the score; 1 is the reranker alone."
    )

    @abstractmethod
    def open(self, embedder: Live) -> AbstractContextManager[Reading]:
        """Load it; `embedder` is the store's own, for rerankers that need no other model."""
