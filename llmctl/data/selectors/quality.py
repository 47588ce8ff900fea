"""The best rows by a number that they carry: a judge's score, a reward, a field."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from llmctl.data.selectors.base import BY, Row, Sized, best_first, value_of


class QualitySelector(Sized):
    """The highest values stay; a row without one only when there is room."""

    by: str = Field(min_length=1, description=BY)

    def chosen(self, rows: Sequence[Row], seed: int) -> dict[int, str]:
        """See Selector."""
        order = best_first(rows, self.by, seed)
        return {place: self._detail(rows[place]) for place in order[self.size(rows) :]}

    def _detail(self, row: Row) -> str:
        value = value_of(row, self.by)
        return f"has no {self.by}" if value is None else f"{self.by} is {value:g}"
