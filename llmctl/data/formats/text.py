"""Raw text in one field, for continual pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data.formats.base import Format, rest, text
from llmctl.errors import InputError


class TextFormat(Format):
    """`{text}`; chunks of an ingest artifact are such rows too."""

    shape: ClassVar[str] = "text"

    field: str = Field("text", min_length=1, description="Field of the text.")

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return isinstance(row.get("text"), str)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; keys beside `text` stay where they are."""
        said = text(row, self.field, where)
        return {**row} if self.field == "text" else {"text": said, **rest(row, (self.field,))}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        if "text" not in row:
            raise InputError(f"{where}: text holds raw text; this row is a conversation")
        return {self.field: row["text"]}
