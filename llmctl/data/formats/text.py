"""Raw text in one field, for continual pre-training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, text
from llmctl.errors import InputError


class TextFormat(Format):
    """`{text}`; chunks of an ingest artifact are such rows too."""

    shape: ClassVar[str] = "text"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return isinstance(row.get("text"), str)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; keys beside `text` stay where they are."""
        return {**row, "text": text(row, "text", where)}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        if "text" not in row:
            raise InputError(f"{where}: text holds raw text; this row is a conversation")
        return {"text": row["text"]}
