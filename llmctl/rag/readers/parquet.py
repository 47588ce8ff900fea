"""Parquet: each row is one document, its fields named in the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from llmctl.rag.fields import Fields
from llmctl.rag.readers.base import Parsed, Reader, Unreadable, first

BATCH = 256
MAX_RATIO = 1000
"""Encoded to packed bytes of a file; columns of one repeated word stay far below."""


class ParquetReader(Reader):
    """Rows in small batches, so that the size of a file does not matter."""

    needs: ClassVar[dict[str, str]] = {"pyarrow": "parquet"}

    patterns: tuple[str, ...] = Field(
        ("*.parquet",), min_length=1, description="File names that are Parquet."
    )
    fields: Fields = Field(default_factory=Fields, description="Which fields are what.")

    @property
    def streams(self) -> bool:
        """A row at a time."""
        return True

    def read(self, path: Path) -> Parsed:
        """The first document."""
        return first(self.read_all(path), Unreadable("empty", "no rows"))

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """Every row."""
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile

        size = path.stat().st_size
        if size == 0:
            raise Unreadable("empty", "0 bytes, no text")
        number = 0
        try:
            with ParquetFile(path) as file:
                groups = range(file.metadata.num_row_groups)
                unpacked = sum(file.metadata.row_group(i).total_byte_size for i in groups)
                if unpacked > MAX_RATIO * size:
                    raise Unreadable("zip_bomb", f"{size} bytes would unpack to {unpacked}")
                columns = self._columns(file.schema_arrow.names)
                for batch in file.iter_batches(BATCH, columns=columns):
                    for row in batch.to_pylist():
                        number += 1
                        yield self.fields.document(row, number)
        except (ArrowException, OSError) as error:
            what = (str(error).splitlines() or [""])[0]
            where = f"after row {number}: " if number else ""
            raise Unreadable("broken_parquet", f"{where}{what}"[:200]) from None

    def _columns(self, names: list[str]) -> list[str] | None:
        """The columns that the recipe names; None when the text is made of all of them."""
        fields = self.fields
        if not fields.text:
            return None
        wanted = [*fields.text, *fields.meta, *filter(None, (fields.title, fields.id))]
        heads = {each if each in names else each.split(".")[0] for each in wanted}
        return [name for name in names if name in heads]
