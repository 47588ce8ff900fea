"""JSON and JSON lines: each row or list item is one document, its fields named in the recipe."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from llmctl.rag.fields import LONGEST, Fields
from llmctl.rag.readers.base import Parsed, Reader, Unreadable, decoded, first

LINES = (".jsonl", ".ndjson")
SPACE = re.compile(r"[ \t\n\r]*")


class JsonReader(Reader):
    """`.jsonl` is read a line at a time, however large; `.json` holds an object or a list."""

    patterns: tuple[str, ...] = Field(
        ("*.jsonl", "*.ndjson", "*.json"), min_length=1, description="File names that are JSON."
    )
    fields: Fields = Field(default_factory=Fields, description="Which fields are what.")
    items: str | None = Field(
        None, description="For `.json`: key of the list whose items are documents, such as `data`."
    )

    @property
    def streams(self) -> bool:
        """A row at a time."""
        return self.items is None

    def read(self, path: Path) -> Parsed:
        """The first document."""
        return first(self.read_all(path), Unreadable("empty", "no rows"))

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """Every row, its number or id as the fragment."""
        rows = _lines(path) if path.suffix.lower() in LINES else self._document(path)
        for number, row in rows:
            if isinstance(row, dict):
                fragment, parsed = self.fields.document(row, number)
                yield fragment if number else "", parsed
            else:
                error = row if isinstance(row, Unreadable) else Unreadable(
                    "not_a_row", f"row {number} is {type(row).__name__}, an object is needed"
                )  # fmt: skip
                yield f"row={number}" if number else "", error

    def _document(self, path: Path) -> Iterator[tuple[int, Any]]:
        """(0, the object) or (number, item) of a list, items parsed one at a time."""
        if path.stat().st_size > LONGEST * 4:
            raise Unreadable("too_large", "a .json file is read whole; make it .jsonl")
        text = decoded(path.read_bytes())
        if self.items is None and text.lstrip().startswith("["):
            yield from _array(text)
            return
        found = _loads(text, "")
        if self.items is not None:
            found = found.get(self.items) if isinstance(found, dict) else None
            if not isinstance(found, list):
                raise Unreadable("no_field", f"no list '{self.items}' at the top of the file")
            yield from enumerate(found, 1)
        else:
            yield 0, found


def _lines(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row or why not); a wrong line does not end the file."""
    number = 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST):
            number += 1
            if len(line) == LONGEST:
                yield number, Unreadable("too_large", f"line {number}: longer than {LONGEST} bytes")
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST)
                continue
            if line.isspace():
                continue
            try:
                yield number, _loads(decoded(line), f"line {number}: ")
            except Unreadable as error:
                yield number, error
    if number == 0:
        raise Unreadable("empty", "0 bytes, no text")


def _array(text: str) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    at = _skip(text, text.index("[") + 1)
    number = 0
    while text[at : at + 1] != "]":
        number += 1
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise _broken(error, f"item {number}: ") from None
        yield number, row
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at = _skip(text, at + 1)
        elif text[at : at + 1] != "]":
            raise Unreadable("broken_json", f"after item {number}: neither ',' nor ']'")


def _skip(text: str, at: int) -> int:
    found = SPACE.match(text, at)
    return found.end() if found else at


def _loads(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _broken(error, where) from None


def _broken(error: Exception, where: str) -> Unreadable:
    if isinstance(error, RecursionError):
        return Unreadable("too_deep", f"{where}its values nest too deeply")
    return Unreadable("broken_json", f"{where}{error}"[:200])
