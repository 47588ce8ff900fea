"""The promise of a store: what was put in is found, nearest first; a search changes no byte."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmctl.plugins import Backend

if TYPE_CHECKING:
    import numpy as np

    from llmctl.records import Chunk


class Near(NamedTuple):
    """A chunk's id and its cosine with the question, from -1 to 1."""

    id: str
    score: float


class Opened(Protocol):
    """A store that is open for questions."""

    def near(
        self, vector: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k nearest, nearest first; with `allowed` only among these ids (a filter's)."""

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """The stored vectors of these ids in their order, float32, shape (ids, dimensions)."""


class Store(Backend):
    """Keeps vectors in a folder and finds the nearest ones."""

    @abstractmethod
    def build(self, folder: Path, chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """Write all chunks with their vectors, shape (chunks, dimensions), into an empty folder."""

    @abstractmethod
    def open(self, folder: Path) -> AbstractContextManager[Opened]:
        """Open what `build` wrote; the folder is not changed by it."""
