"""Any table whose columns the recipe names: CSV files, spreadsheets saved as text, JSON objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.data.formats.base import (
    Format,
    UnfitError,
    alternating,
    dialogue,
    example_of,
    rest,
    text,
)
from llmctl.errors import InputError


class ColumnsFormat(Format):
    """One question and its answer in each row."""

    shape: ClassVar[str] = "columns that the recipe names"

    user: str = Field(min_length=1, description="Column of the question.")
    assistant: str = Field(min_length=1, description="Column of the answer.")
    system: str | None = Field(
        None, min_length=1, description="Column of the system message; empty cells give none."
    )

    @model_validator(mode="after")
    def _apart(self) -> Self:
        apart([self.user, self.assistant, self.system])
        return self

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """Never by itself: which column is what has to be said."""
        return False

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; a row with an empty cell is unfit."""
        asked, answered = (cell(row, each, where) for each in (self.user, self.assistant))
        extra = rest(row, filter(None, (self.user, self.assistant, self.system)))
        return {"messages": dialogue(system_of(row, self.system, where), asked, answered), **extra}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; longer conversations cannot be held."""
        messages = example_of(row, self.kind, where)
        system, (asked, answer) = two(messages, self.system, self.kind, where)
        return system | {self.user: asked, self.assistant: answer}


def apart(columns: Sequence[str | None]) -> None:
    """Refuse a column that is named twice."""
    twice = next((c for c in columns if c is not None and columns.count(c) > 1), None)
    if twice:
        raise ValueError(f"column '{twice}' is named twice")


def cell(row: Mapping[str, Any], column: str, where: str) -> str:
    """The text of a column; an empty cell is unfit."""
    if column not in row:
        raise InputError(f"{where}: has no column '{column}'; found {', '.join(map(str, row))}")
    if row[column] is None or not text(row, column, where).strip():
        raise UnfitError("empty_cell", f"column '{column}'")
    return text(row, column, where)


def system_of(row: Mapping[str, Any], column: str | None, where: str) -> str:
    """The system message; nothing where no column is named or the cell is empty."""
    return text(row, column, where, optional=True) if column else ""


def two(
    messages: Sequence[Mapping[str, Any]], column: str | None, kind: str, where: str
) -> tuple[dict[str, Any], list[str]]:
    """({column: system message} where a column is named, [question, answer])."""
    system, said = alternating(messages, kind, where)
    if len(said) != 2:
        raise InputError(f"{where}: {kind} holds one question and its answer; export as openai")
    if system and not column:
        raise InputError(f"{where}: has a system message; name a column `system` for it")
    return ({column: system} if column else {}), said
