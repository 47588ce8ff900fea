"""Any table with a question, a better and a worse answer in columns that the recipe names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.data.formats.base import Format, dialogue, pair_of, rest, turn
from llmctl.data.formats.columns import apart, cell, system_of, two


class PairColumnsFormat(Format):
    """One question and two answers in each row."""

    shape: ClassVar[str] = "columns that the recipe names"

    user: str = Field(min_length=1, description="Column of the question.")
    chosen: str = Field(min_length=1, description="Column of the better answer.")
    rejected: str = Field(min_length=1, description="Column of the worse answer.")
    system: str | None = Field(
        None, min_length=1, description="Column of the system message; empty cells give none."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        apart([self.user, self.chosen, self.rejected, self.system])
        return self

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """Never by itself: which column is what has to be said."""
        return False

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; a row with an empty cell is unfit."""
        columns = (self.user, self.chosen, self.rejected)
        asked, better, worse = (cell(row, each, where) for each in columns)
        prompt = dialogue(system_of(row, self.system, where), asked)
        answers = {"chosen": [turn("assistant", better)], "rejected": [turn("assistant", worse)]}
        return {"prompt": prompt, **answers, **rest(row, filter(None, (*columns, self.system)))}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; longer conversations cannot be held."""
        pair_of(row, self.kind, where)
        found: dict[str, Any] = {}
        for name, column in (("chosen", self.chosen), ("rejected", self.rejected)):
            messages = [*row["prompt"], *row[name]]
            system, (asked, answer) = two(messages, self.system, self.kind, where)
            found |= system | {self.user: asked, column: answer}
        return found
