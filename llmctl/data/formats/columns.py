"""Any table whose columns the recipe names: CSV files, spreadsheets saved as text, JSON objects."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.data.formats.base import (
    Format,
    UnfitError,
    alternating,
    dialogue,
    example_of,
    pair_of,
    rest,
    text,
)
from llmctl.errors import InputError


class ColumnsFormat(Format):
    """`user` with `assistant`; `user` with `chosen` and `rejected`; or `text` alone."""

    shape: ClassVar[str] = "columns that the recipe names"

    user: str | None = Field(None, min_length=1, description="Column of the question.")
    assistant: str | None = Field(None, min_length=1, description="Column of the answer.")
    system: str | None = Field(
        None, min_length=1, description="Column of the system message; empty cells give none."
    )
    chosen: str | None = Field(None, min_length=1, description="Column of the better answer.")
    rejected: str | None = Field(None, min_length=1, description="Column of the worse answer.")
    text: str | None = Field(None, min_length=1, description="Column of raw text.")

    @model_validator(mode="after")
    def _one_form(self) -> Self:
        named = {name for name in type(self).model_fields if getattr(self, name) is not None}
        if named - {"system"} not in FORMS:
            raise ValueError(
                "name user and assistant, or user, chosen and rejected, or text alone; "
                f"found {', '.join(sorted(named)) or 'none'}"
            )
        if self.text and self.system:
            raise ValueError("raw text has no system message")
        columns = [getattr(self, name) for name in sorted(named)]
        twice = next((column for column in columns if columns.count(column) > 1), None)
        if twice:
            raise ValueError(f"column '{twice}' is named twice")
        return self

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """Never by itself: which column is what has to be said."""
        return False

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; a row with an empty cell is unfit."""
        said = {name: self._cell(row, name, where) for name in FIELDS if getattr(self, name)}
        used = [getattr(self, name) for name in said]
        system = ""
        if self.system:
            system, used = text(row, self.system, where, optional=True), [*used, self.system]
        extra = rest(row, used)
        if self.text:
            return {"text": said["text"], **extra}
        if self.assistant:
            return {"messages": dialogue(system, said["user"], said["assistant"]), **extra}
        answers = {
            name: [{"role": "assistant", "content": said[name]}] for name in ("chosen", "rejected")
        }
        return {"prompt": dialogue(system, said["user"]), **answers, **extra}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; one question and its answer are held, longer conversations are not."""
        if self.text:
            return {self.text: example_text(row, where)}
        if self.chosen and self.rejected:
            pair_of(row, self.kind, where)
            sides = {"chosen": row["chosen"], "rejected": row["rejected"]}
            begun = row["prompt"]
        else:
            messages = example_of(row, self.kind, where)
            sides, begun = {"assistant": messages[-1:]}, messages[:-1]
        found: dict[str, Any] = {}
        for name, answer in sides.items():
            system, said = alternating([*begun, *answer], self.kind, where)
            if len(said) != 2:
                raise InputError(
                    f"{where}: columns hold one question and its answer; export as openai"
                )
            if system and not self.system:
                raise InputError(f"{where}: has a system message; name a column `system` for it")
            if self.system:
                found[self.system] = system
            found[str(self.user)], found[getattr(self, name)] = said
        return found

    def _cell(self, row: Mapping[str, Any], name: str, where: str) -> str:
        column = getattr(self, name)
        if column not in row:
            raise InputError(f"{where}: has no column '{column}'; found {', '.join(map(str, row))}")
        if row[column] is None:
            raise UnfitError("empty_cell", f"column '{column}'")
        cell = text(row, column, where)
        if not cell.strip():
            raise UnfitError("empty_cell", f"column '{column}'")
        return cell


FIELDS = ("user", "assistant", "chosen", "rejected", "text")
FORMS = ({"user", "assistant"}, {"user", "chosen", "rejected"}, {"text"})
"""The sets of columns that make a row."""


def example_text(row: Mapping[str, Any], where: str) -> str:
    """The raw text of a row of texts."""
    if "text" not in row:
        raise InputError(f"{where}: a column of text holds raw text; this row is a conversation")
    return str(row["text"])
