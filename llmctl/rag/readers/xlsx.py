"""Excel workbooks: each sheet a document of rows, or each row a document."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, ClassVar, Literal
from xml.parsers import expat

from pydantic import Field

from llmctl.rag.fields import Fields, columns, sentence
from llmctl.rag.packages import package, properties, refuse_doctype
from llmctl.rag.readers.base import Parsed, Reader, Unreadable, first

BROKEN = (KeyError, ValueError, TypeError, AttributeError, IndexError, SyntaxError, OSError,
          EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)  # fmt: skip


class XlsxReader(Reader):
    """Values as they were last computed; the first row with values names the columns."""

    needs: ClassVar[dict[str, str]] = {"openpyxl": "rag"}

    patterns: tuple[str, ...] = Field(
        ("*.xlsx", "*.xlsm"), min_length=1, description="File names that are Excel workbooks."
    )
    per: Literal["sheet", "row"] = Field(
        "sheet", description="One document for each sheet, or one for each row."
    )
    sheets: tuple[str, ...] = Field((), description="Names of the sheets to read; empty for all.")
    fields: Fields = Field(default_factory=Fields, description="Which columns are what.")

    def read(self, path: Path) -> Parsed:
        """The first sheet or row that has text."""
        return first(
            self.read_all(path), Unreadable("no_text", "no sheet has rows below its first line")
        )

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """The sheets or their rows; the fragment is the sheet's name, then the row's."""
        import openpyxl

        with package(path) as opened:
            _refuse_doctypes(opened)
            meta = properties(opened)
            meta.pop("title", None)
        some = False
        try:
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            try:
                for sheet in book.worksheets:
                    if self.sheets and sheet.title not in self.sheets:
                        continue
                    for each in self._sheet(sheet, meta):
                        some = True
                        yield each
            finally:
                book.close()
        except BROKEN as error:
            # openpyxl answers a damaged workbook with whichever exception its parser meets
            what = (str(error).splitlines() or [""])[0]
            raise Unreadable("broken_xlsx", f"{type(error).__name__}: {what}"[:200]) from None
        if not some:
            raise Unreadable("no_text", "no sheet has rows below its first line")

    def _sheet(self, sheet: Any, meta: dict[str, str]) -> Iterator[tuple[str, Parsed | Unreadable]]:
        told = {**meta, "sheet": sheet.title}
        found: list[str] = []
        for number, row in _rows(sheet):
            if self.per == "row":
                fragment, parsed = self.fields.document(row, number, told)
                yield f"{sheet.title}!{fragment}", parsed
                continue
            _, parsed = self.fields.document(row, number)
            if isinstance(parsed, Unreadable):
                if parsed.reason == "no_field":
                    yield sheet.title, parsed
                    return
                continue
            found.append(" ".join(parsed.text.split()) if self.fields.text else sentence(row))
        if found:
            text = "\n\n".join(found)
            yield sheet.title, Parsed(text, sheet.title, meta={**told, "rows": len(found)})


def _rows(sheet: Any) -> Iterator[tuple[int, dict[str, Any]]]:
    """(row number as Excel shows it, row) of the rows below the first one with values."""
    names: list[str] = []
    sheet.reset_dimensions()  # a wrong size would pad every row to 16,384 cells
    for number, values in enumerate(sheet.iter_rows(values_only=True), 1):
        if all(value is None for value in values):
            continue
        if not names:
            names = columns(values)
            continue
        more = [f"column {place}" for place in range(len(names) + 1, len(values) + 1)]
        cells = [_shown(value) for value in values]
        yield number, dict(zip([*names, *more], cells, strict=False))


def _shown(value: Any) -> Any:
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def _refuse_doctypes(opened: zipfile.ZipFile) -> None:
    """openpyxl parses the parts by itself, so their heads are checked here."""

    class Begun(Exception):  # noqa: N818
        pass

    def begin(*_: object) -> None:
        raise Begun

    for name in opened.namelist():
        if not name.endswith((".xml", ".rels")):
            continue
        parser = expat.ParserCreate()
        parser.StartDoctypeDeclHandler = refuse_doctype
        parser.StartElementHandler = begin
        try:
            with opened.open(name) as part:
                while data := part.read(65536):
                    parser.Parse(data)
        except Begun:
            continue
        except (expat.ExpatError, zipfile.BadZipFile, ValueError) as error:
            raise Unreadable("broken_xlsx", f"{name[:80]}: {error}"[:200]) from None
