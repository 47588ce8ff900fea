"""The promise of a store: what was put in is found, nearest first; a search changes no byte."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

from llmctl.plugins import Backend

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.collection import Snapshot


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
    """Keeps vectors and finds the nearest ones."""

    @abstractmethod
    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """Put all chunks of a snapshot in an empty folder, or on a server that the folder names.

        The store of `snapshot.old` may be built on and is not changed. `told` hears of chunks.
        """

    @abstractmethod
    def open(self, folder: Path) -> AbstractContextManager[Opened]:
        """Open what `write` left in the folder; the folder is not changed by it."""

    def prepare(self) -> None:
        """Load what `write` needs: it is called while vectors are made, and may be more than once.

        The default does nothing.
        """

    def sweep(self, folder: Path, owner: str) -> None:
        """Remove what this owner's earlier and killed runs left outside of `folder`."""
