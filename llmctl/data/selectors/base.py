"""The promise of a selector: rows in, some of them out in their own order, the others Dropped."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import Any, Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import field_of
from llmctl.errors import InputError
from llmctl.plugins import Backend
from llmctl.records import Dropped

Row = Mapping[str, Any]
JUDGE = "judge:"
BY = (
    "Field with a number, such as meta.score, or judge:NAME for the score that a judge of the "
    "recipe gave."
)


class Selector(Backend):
    """Looks at all rows at once; the same rows and seed give the same choice in any order."""

    @abstractmethod
    def chosen(self, rows: Sequence[Row], seed: int) -> dict[int, str]:
        """Place of each row that leaves -> the detail of why."""

    def select(self, rows: Sequence[Row], seed: int) -> Iterator[Row | Dropped]:
        """Every row, or Dropped with the selector's kind as the reason."""
        leaving = self.chosen(rows, seed)
        for place, row in enumerate(rows):
            if place in leaving:
                yield Dropped(str(row["id"]), self.kind, leaving[place])
            else:
                yield row

    def model_inputs(self) -> dict[str, Path | str]:
        """Own key -> model reference, for the recipe's inputs."""
        return {}


class Sized(Selector):
    """A selector that keeps so many rows, or such a share of them."""

    share: float = Field(0.5, gt=0, le=1, description="Share of the rows that is kept, rounded up.")
    count: int | None = Field(None, ge=1, description="Rows that are kept, instead of a share.")

    @model_validator(mode="after")
    def _one_size(self) -> Self:
        if {"count", "share"} <= self.model_fields_set:
            raise ValueError(f"{self.kind}: give either `count` or `share`")
        return self

    def size(self, rows: Sequence[Row]) -> int:
        """How many of these rows are kept."""
        if self.count is not None:
            return min(self.count, len(rows))
        # 1e-9: a share that was meant to be exact is not rounded up by its last bit
        return max(1, math.ceil(self.share * len(rows) - 1e-9))


def value_of(row: Row, by: str) -> float | None:
    """The number that rows are ordered by; None when the row has none."""
    if by.startswith(JUDGE):
        name = by.removeprefix(JUDGE)
        words = (row.get("meta") or {}).get("judgements") or ()
        found = [word.get("score") for word in words if word.get("judge") == name]
        value = found[-1] if found else None
    else:
        value = field_of(row, by)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def best_first(rows: Sequence[Row], by: str | None, seed: int) -> list[int]:
    """Places, the highest value first, rows without one last; without `by` drawn by the seed.

    Equals are ordered by the seed and their id, never by where they stand. Raises InputError when
    no row has a value at all.
    """
    values = [value_of(row, by) if by else 0.0 for row in rows]
    if rows and all(value is None for value in values):
        raise InputError(f"select: no row has a number in `{by}`")

    def key(place: int) -> tuple[float, float]:
        value, row = values[place], rows[place]
        return -(value if value is not None else -math.inf), Random(f"{seed}\0{row['id']}").random()

    return sorted(range(len(rows)), key=key)


def rest(rows: Sequence[Row], kept: Iterable[int], detail: str) -> dict[int, str]:
    """All places but the kept ones, with one detail."""
    return dict.fromkeys(set(range(len(rows))) - set(kept), detail)
