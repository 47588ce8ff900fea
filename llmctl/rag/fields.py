"""Rows of named fields -> documents: which fields are text, title, id and meta."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Unreadable
from llmctl.schema.base import Part

LONGEST = 20_000_000
"""Characters of one row; a longer one is an attack or another format."""


class Fields(Part):
    """The fields of a row by name; `author.name` is a field inside a field."""

    text: tuple[str, ...] = Field(
        (), description="Fields that make the text; empty takes all as `name: value` lines."
    )
    title: str | None = Field(None, description="Field with the title.")
    id: str | None = Field(
        None, description="Field that names a row in its uri; without it, the number of the row."
    )
    meta: tuple[str, ...] = Field((), description="Fields that are kept as metadata.")

    def document(
        self, row: Mapping[str, Any], number: int, meta: Mapping[str, Any] | None = None
    ) -> tuple[str, Parsed | Unreadable]:
        """(fragment of the uri, document) of one row; a missing field is the reason against it."""
        fragment = f"row={number}"
        try:
            if self.id is not None:
                fragment = _words(_value(row, self.id))[:200] or fragment
            if self.text:
                parts = [_words(_value(row, name)) for name in self.text]
                text = "\n\n".join(part for part in parts if part)
            else:
                text = lines(row)
            title = _words(_value(row, self.title)) if self.title else ""
            kept = {name: _value(row, name) for name in self.meta}
        except Unreadable as error:
            return fragment, error
        if not text.strip():
            return fragment, Unreadable("empty", f"row {number} has no text")
        return fragment, Parsed(text, " ".join(title.split()), meta={**(meta or {}), **kept})


def columns(names: Iterable[Any]) -> list[str]:
    """Names for the columns of a table: the nameless and the repeated ones get their place."""
    found: dict[str, None] = {}
    for place, name in enumerate(names, 1):
        text = " ".join(str("" if name is None else name).split())
        found[f"{text} {place}" if text in found else text or f"column {place}"] = None
    return list(found)


def lines(row: Mapping[str, Any]) -> str:
    """`name: value` lines of the fields that have a value."""
    pairs = ((name, _words(value)) for name, value in row.items())
    return "\n".join(f"{name}: {value}" for name, value in pairs if value)


def sentence(row: Mapping[str, Any]) -> str:
    """One row of a table as a line, each value with its column's name."""
    pairs = ((name, " ".join(_words(value).split())) for name, value in row.items())
    return "; ".join(f"{name}: {value}" for name, value in pairs if value)


def _value(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    found: Any = row
    for part in name.split("."):
        if not isinstance(found, Mapping) or part not in found:
            there = ", ".join(map(str, list(row)[:12])) or "nothing"
            raise Unreadable("no_field", f"no field '{name}'; there are: {there}"[:200])
        found = found[part]
    return found


def _words(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(each, str) for each in value):
        return "\n".join(value)
    if isinstance(value, list | dict | bool):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)
