"""Rows in files of other tools: JSON lines, one JSON list, CSV, Parquet."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from llmctl import rows as files
from llmctl.data.formats.base import Format
from llmctl.errors import InputError
from llmctl.records import Dropped

Row = Mapping[str, Any]
PLAIN = (str, int, float, bool, type(None))
TURN = ({"role", "content"}, {"from", "value"})
"""Keys of messages that become columns of their own in Parquet."""


def write(
    path: Path, rows: Sequence[Row], format: Format | None, left: list[Dropped] | None = None
) -> int:
    """Write rows to a file of the kind that its suffix says; returns how many.

    Without `format` they are written as they are. A row that the format cannot hold is added to
    `left`, or raises InputError when that is None.
    """
    given = []
    for row in rows:
        where = f"export/{path.name}: row {row['id']}"
        try:
            given.append(format.write(row, where) if format else dict(row))
        except InputError as error:
            if left is None:
                raise InputError(f"{error}; or leave such rows out: skip_unheld: true") from None
            why = str(error).removeprefix(f"{where}: ")
            left.append(Dropped(str(row["id"]), "not_held", why))
    _written(path, given)
    return len(given)


def _written(path: Path, given: list[dict[str, Any]]) -> None:
    if path.suffix == ".json":
        path.write_text(json.dumps(given, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    elif path.suffix == ".csv":
        _csv(path, given)
    elif path.suffix == ".parquet":
        _parquet(path, given)
    else:
        files.write_jsonl(path, given)


def _columns(rows: Sequence[Row]) -> list[str]:
    return list(dict.fromkeys(key for row in rows for key in row))


def _csv(path: Path, rows: Sequence[Row]) -> None:
    for number, row in enumerate(rows, 1):
        wrong = next((key for key, value in row.items() if not isinstance(value, PLAIN)), None)
        if wrong:
            raise InputError(
                f"export: row {number}: `{wrong}` is no text, which csv cannot hold; "
                "choose another format, such as {kind: columns, user: question, assistant: answer}"
            )
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, _columns(rows), lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


def _parquet(path: Path, rows: Sequence[Row]) -> None:
    """Texts, numbers and messages as columns; what has no fixed form as JSON, marked as such."""
    import pyarrow
    from pyarrow import parquet

    arrays, fields = [], []
    for name in _columns(rows):
        values = [row.get(name) for row in rows]
        try:
            array = pyarrow.array(values) if _has_form(values) else None
        except pyarrow.ArrowException:  # numbers beside texts
            array = None
        marks = None
        if array is None:
            texts = [None if v is None else json.dumps(v, ensure_ascii=False) for v in values]
            array, marks = pyarrow.array(texts, pyarrow.string()), {files.JSON_MARK: "json"}
        arrays.append(array)
        fields.append(pyarrow.field(name, array.type, metadata=marks))
    parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(fields)), path)


def _has_form(values: Sequence[Any]) -> bool:
    """Whether a column is of plain values or of messages that are texts alone."""
    for value in values:
        if isinstance(value, list):
            good = all(
                isinstance(v, Mapping)
                and set(v) in TURN
                and all(isinstance(each, str) for each in v.values())
                for v in value
            )
        else:
            good = isinstance(value, PLAIN)
        if not good:
            return False
    return True
