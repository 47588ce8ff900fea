"""The promise of an embedder: texts in, one vector each, of one length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol

from llmctl.plugins import Backend

if TYPE_CHECKING:
    import numpy as np


class Live(Protocol):
    """A loaded embedder."""

    dimensions: int
    cut: Sequence[int]
    """Which texts of the last call were longer than the model reads."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts: float32, shape (texts, dimensions), length 1."""

    def query(self, text: str) -> np.ndarray:
        """Vector of a question, shape (dimensions,), length 1."""


class Embedder(Backend):
    """Turns texts into vectors whose cosine says how near they are in meaning."""

    @abstractmethod
    def open(self) -> AbstractContextManager[Live]:
        """Load the model; the context manager yields what embeds."""
