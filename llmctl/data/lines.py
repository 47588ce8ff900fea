"""Rows with the bytes that they were read from: a kept row is copied, not written anew."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from llmctl import digest, rows, tables
from llmctl.data import reading
from llmctl.errors import InputError

TEXTS = (".txt", ".md")
NO_TEXT = "a row of no known format: name the fields to compare in `text`"


def raw(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line) of every line that is not blank; of Parquet, its rows as JSON."""
    if path.is_dir() and not any(path.glob("*.parquet")):
        yield from _texts(path)
        return
    if not path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        for number, row in rows.numbered(path):
            yield number, rows.dumps(row).encode("utf-8", "surrogatepass") + b"\n"
        return
    for number, line in rows.lines(path):
        yield number, line if line.endswith(b"\n") else line + b"\n"


def _texts(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The text files of a folder, in the order of their names, as rows."""
    files = (file for file in digest.files_of(folder) if file.suffix in TEXTS)
    for number, file in enumerate(files, 1):
        name = file.relative_to(folder).as_posix()
        try:
            text = file.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{file}: not UTF-8 text") from None
        row = {"id": name, "text": text, "source": {"uri": name}}
        yield number, rows.dumps(row).encode() + b"\n"


def parsed(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, row) of a file; raises at the first line that is not a row."""
    for number, line in raw(path):
        where = f"{path}:{number}"
        yield where, row_of(line, where)


def row_of(line: bytes, where: str) -> dict[str, Any]:
    """The row of a line."""
    try:
        row = _fast(line)
    except UnicodeDecodeError:
        raise InputError(f"{where}: not UTF-8 text") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON: {tables.json_fault(error)}") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: is a {type(row).__name__}, a row is an object")
    return row


def _fast(line: bytes) -> Any:
    """A JSON value by pydantic's parser; what it refuses is left to the standard library's."""
    try:
        return from_json(line, cache_strings="keys")
    except ValueError:
        return json.loads(line)


def field(row: Mapping[str, Any], dotted: str, where: str) -> Any:
    """The value of a dotted field."""
    value: Any = row
    for part in dotted.split("."):
        if not isinstance(value, Mapping) or part not in value:
            raise InputError(f"{where}: has no field '{dotted}'; found {', '.join(row)}")
        value = value[part]
    return value


def text_of(row: Mapping[str, Any], fields: Sequence[str], where: str) -> str:
    """What is compared of a row; parts are held apart by a NUL, which no folding removes."""
    if fields:
        return "\0".join(_flat(field(row, each, where)) for each in fields)
    if "messages" in row:
        return _flat(row["messages"])
    if "chosen" in row and "rejected" in row:
        names = [n for n in ("prompt", "chosen", "rejected") if n in row]
        return "\0".join(_flat(row[name]) for name in names)
    if "text" in row:
        return _flat(row["text"])
    own = reading.converted(row, where)
    if own is None:
        raise InputError(f"{where}: {NO_TEXT}")
    return text_of(own, fields, where)


def _flat(value: Any) -> str:
    """Text, or the contents of messages; null is no text; anything else as JSON."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(v, Mapping) for v in value):
        contents = [v.get("content") for v in value]
        if all(isinstance(each, str) for each in contents):
            return "\0".join(contents)
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
