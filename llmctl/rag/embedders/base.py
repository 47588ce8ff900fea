"""The promise of an embedder: texts in, one vector each, of one length."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, ClassVar, Protocol

from llmctl.plugins import Backend
from llmctl.rag.embedders._vectors import Prompts

if TYPE_CHECKING:
    import numpy as np


class Live(Protocol):
    """A loaded embedder."""

    dimensions: int
    prompts: Prompts
    """What is put before stored texts and before questions."""
    cut: Sequence[int]
    """Which texts of the last call were longer than the model reads."""

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts: float32, shape (texts, dimensions), length 1."""

    def query(self, text: str) -> np.ndarray:
        """Vector of a question, shape (dimensions,), length 1."""


def begun(live: Live, texts: Sequence[str]) -> Callable[[], np.ndarray]:
    """What gives the vectors of `texts`: an embedder with threads of its own makes them meanwhile.

    `live.cut` is right at once.
    """
    if hasattr(live, "begun"):
        meanwhile: Callable[[], np.ndarray] = live.begun(texts)
        return meanwhile
    made = live.texts(texts)
    return lambda: made


class Embedder(Backend):
    """Turns texts into vectors whose cosine says how near they are in meaning."""

    remote: ClassVar[bool] = False
    """Whether the model is elsewhere, where no digest says what it is."""

    def models(self) -> dict[str, str]:
        """Key -> reference of each local model."""
        return {}

    @abstractmethod
    def open(self) -> AbstractContextManager[Live]:
        """Load the model; the context manager yields what embeds."""
