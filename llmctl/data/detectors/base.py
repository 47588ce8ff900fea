"""The promise of a detector: which rows hold which benchmark items, and how surely."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from llmctl.data.dedupers.base import Rows
from llmctl.data.kernels import Floats, Ids
from llmctl.plugins import Backend

if TYPE_CHECKING:
    from llmctl.generation.spending import Spending

Action = Literal["drop", "flag"]


@dataclass(frozen=True)
class Hits:
    """Row i holds item j with a score in 0..1; `drop` says which hits are sure enough to drop."""

    row: Ids
    item: Ids
    score: Floats
    drop: NDArray[np.bool_]
    verdicts: dict[int, str] = field(default_factory=dict)
    """Number of a hit -> what a model said of it."""
    skipped: int = 0
    """Items that this detector cannot look for."""
    spending: Spending | None = None
    """What was asked of a model."""


class Detector(Backend):
    """Looks for benchmark items in rows."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """The measure and its bound, as dropped.jsonl names them."""

    @abstractmethod
    def find(self, items: Sequence[str], rows: Rows, ids: Ids) -> Hits:
        """Look for all items in the rows `ids`."""


def bulk(row: list[Ids], item: list[Ids], score: list[Floats]) -> tuple[Ids, Ids, Floats]:
    """Parts of hits as one."""
    empty = np.empty(0, np.int64)
    return (
        np.concatenate([empty, *row]),
        np.concatenate([empty, *item]),
        np.concatenate([np.empty(0), *score]),
    )
