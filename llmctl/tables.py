"""Rows of files that are read whole: a JSON list of objects, and CSV with a header."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmctl.errors import InputError

SPACE = re.compile(r"\s*")
LONGEST_CELL = 1 << 27
"""Characters; csv's own limit of 128 Ki is below what long answers have."""


def json_fault(error: ValueError | RecursionError) -> str:
    """What is wrong in JSON and in which column; the line is told by whoever counts lines."""
    if isinstance(error, json.JSONDecodeError):
        place = min(error.pos, len(error.doc.rstrip()))  # not beyond the line's end
        return f"{error.msg} (column {place - error.doc.rfind(chr(10), 0, place)})"
    return str(error)


def read_array(path: Path, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line where it begins, object) of a file that is one JSON list of objects."""
    decoder = json.JSONDecoder()
    at = _skipped(text, 0)
    if text[at : at + 1] != "[":
        raise InputError(f"{path}:1: is no JSON list of rows; one object per line is .jsonl")
    at, line, counted = _skipped(text, at + 1), 1, 0
    first = True
    while text[at : at + 1] != "]" or not first:
        line += text.count("\n", counted, at)
        counted = at
        try:
            row, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            place = getattr(error, "lineno", line)
            raise InputError(f"{path}:{place}: not valid JSON: {json_fault(error)}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{line}: is a {type(row).__name__}, a row is an object")
        yield line, row
        first = False
        at = _skipped(text, at)
        if text[at : at + 1] == "]":
            break
        if text[at : at + 1] != ",":
            where = text.count("\n", 0, at) + 1
            raise InputError(f"{path}:{where}: not valid JSON: a comma or ] is missing")
        at = _skipped(text, at + 1)
    if text[_skipped(text, at + 1) :]:
        where = text.count("\n", 0, at) + 1
        raise InputError(f"{path}:{where}: not valid JSON: something follows the list")


def _skipped(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at


def read_csv(path: Path, text: str, delimiter: str | None) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line where it begins, cells by column) of a table with a header.

    Without `delimiter` it is a comma, or a semicolon when the header has no comma.
    """
    csv.field_size_limit(LONGEST_CELL)
    header = text.partition("\n")[0]
    if delimiter is None:
        delimiter = ";" if ";" in header and "," not in header else ","
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    names: list[str] | None = None
    line = 1
    try:
        for cells in lines:
            began, line = line, lines.line_num + 1
            if not cells:
                continue
            if names is None:
                names = _header(cells, f"{path}:{began}")
                continue
            if len(cells) != len(names):
                raise InputError(
                    f"{path}:{began}: has {len(cells)} cells, the header has {len(names)}"
                )
            yield began, dict(zip(names, cells, strict=True))
    except csv.Error as error:
        raise InputError(f"{path}:{lines.line_num}: not valid CSV: {error}") from None


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.strip() for cell in cells]
    for number, name in enumerate(names, 1):
        if not name:
            raise InputError(f"{where}: column {number} of the header has no name")
        if names.count(name) > 1:
            raise InputError(f"{where}: column '{name}' is there twice")
    return names
