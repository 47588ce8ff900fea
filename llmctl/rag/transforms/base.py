"""The promise of a transform: what was asked in, what is searched out; it may not lose a question.

A transform that fails changes nothing: the question goes on as it was, with a warning and an entry
in the trace.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

from llmctl.plugins import Backend

if TYPE_CHECKING:
    import numpy as np

    from llmctl.engines.base import Session
    from llmctl.rag.embedders.base import Live
    from llmctl.rag.keywords import Index


@dataclass(frozen=True)
class Query:
    """One search; `vector` and `terms` stand in for what `text` would give."""

    text: str
    weight: float = 1.0
    vector: np.ndarray | None = None
    terms: Mapping[str, float] | None = None


@dataclass(frozen=True)
class Asked:
    """A question on its way through the transforms."""

    question: str
    queries: tuple[Query, ...]
    filter: str | None = None
    search: bool = True
    """False when a route says that no store is of use for the question."""
    store: Path | None = None
    """The artifact that a route chose; None is the recipe's own."""

    @classmethod
    def of(cls, question: str, filter: str | None = None) -> Self:
        """The plain question."""
        return cls(question, (Query(question),), filter)

    def also(self, *queries: Query) -> Asked:
        """With more queries; one whose text is there already is not searched twice."""
        known = {query.text.casefold() for query in self.queries}
        new = []
        for query in queries:
            if query.text.strip() and query.text.casefold() not in known:
                known.add(query.text.casefold())
                new.append(query)
        return replace(self, queries=(*self.queries, *new))


class Tools(Protocol):
    """What a transform may use."""

    embedder: Live
    session: Session | None

    def index(self) -> Index:
        """The keyword index."""

    def first(self, asked: Asked) -> tuple[list[str], np.ndarray, np.ndarray]:
        """(ids, scores, vectors) of a first search, best first."""

    def fields(self) -> dict[str, Any]:
        """Metadata that a filter may name: field -> how metadata.json describes it."""

    def check_filter(self, text: str) -> None:
        """Raises InputError when a filter does not fit the store's metadata."""

    def some_match(self, text: str) -> bool:
        """Whether any chunk passes a filter."""


class Transform(Backend):
    """Changes or multiplies what is searched."""

    asks_engine: ClassVar[bool] = False
    """Whether a model may be asked: what fails then is left out."""

    def asks(self) -> bool:
        """Whether a model is asked with these options."""
        return self.asks_engine

    def inputs(self) -> dict[str, Path]:
        """Artifacts that are searched besides the recipe's store."""
        return {}

    @abstractmethod
    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """What is searched instead."""
