"""Tables as text (CSV, TSV): each value with its column's name, as one document or one per row."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from pydantic import Field

from llmctl.rag.fields import LONGEST, Fields, columns, sentence
from llmctl.rag.readers.base import Parsed, Reader, Unreadable

DELIMITERS = (",", ";", "\t", "|")


class CsvReader(Reader):
    """The first line names the columns."""

    patterns: tuple[str, ...] = Field(
        ("*.csv", "*.tsv", "*.tab"), min_length=1, description="File names that are tables."
    )
    per: Literal["table", "row"] = Field(
        "table", description="One document for the whole file, or one for each row."
    )
    fields: Fields = Field(default_factory=Fields, description="Which columns are what.")
    delimiter: str | None = Field(
        None, min_length=1, max_length=1, description="Between values; found out when not given."
    )
    encoding: str = Field("utf-8", min_length=1, description="Encoding of the bytes.")

    @property
    def streams(self) -> bool:
        """One document per row needs only that row."""
        return self.per == "row"

    def read(self, path: Path) -> Parsed:
        """The whole table, a row a line."""
        found: list[str] = []
        title = ""
        for _, row in self._rows(path):
            _, parsed = self.fields.document(row, len(found) + 1)
            if isinstance(parsed, Unreadable):
                raise parsed
            title = title or parsed.title
            found.append(" ".join(parsed.text.split()) if self.fields.text else sentence(row))
        if not found:
            raise Unreadable("no_text", "the table has no rows below its first line")
        # a blank line ends a row, so that chunkers do not take two rows for one sentence
        return Parsed("\n\n".join(found), title, meta={"rows": len(found)})

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """The table, or its rows."""
        if self.per == "table":
            yield "", self.read(path)
            return
        for number, row in self._rows(path):
            yield self.fields.document(row, number)

    def _rows(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        """(number, row) of every row that has a value."""
        csv.field_size_limit(LONGEST)  # of the whole process; texts exceed its 128 KB
        if path.stat().st_size == 0:
            raise Unreadable("empty", "0 bytes, no text")
        try:
            encoding = _marked(path) or self.encoding
            with path.open(encoding=encoding, newline="") as file:
                first = file.readline(LONGEST)
                delimiter = self.delimiter or _delimiter(first)
                file.seek(0)
                rows = csv.reader(_checked(file), delimiter=delimiter)
                names = columns(next(rows, []))
                for number, values in enumerate(rows, 1):
                    more = [f"column {n}" for n in range(len(names) + 1, len(values) + 1)]
                    row = dict(zip([*names, *more], values, strict=False))
                    if any(value.strip() for value in values):
                        yield number, row
        except UnicodeDecodeError as error:
            bad = error.object[error.start]
            raise Unreadable("not_utf8", f"byte {bad:#04x} is not {self.encoding}") from None
        except LookupError:
            raise Unreadable("unknown_encoding", f"no encoding named '{self.encoding}'") from None
        except csv.Error as error:
            raise Unreadable("broken_csv", str(error)) from None


def _marked(path: Path) -> str | None:
    """The encoding that the first bytes tell."""
    with path.open("rb") as file:
        head = file.read(4)
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    return "utf-8-sig" if head.startswith(b"\xef\xbb\xbf") else None


def _checked(file: Iterator[str]) -> Iterator[str]:
    for line in file:
        if "\0" in line:
            raise Unreadable("binary", "a zero byte in the table")
        yield line


def _delimiter(line: str) -> str:
    """The one that parts the first line most often, outside of quotes."""
    outside = "".join(line.split('"')[::2])
    return max(DELIMITERS, key=outside.count)
