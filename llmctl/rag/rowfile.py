"""Rows of a JSONL file by their id, read when they are asked for."""

from __future__ import annotations

import json
import mmap
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

ID = re.compile(rb'\{"id":\s*("(?:[^"\\]|\\.)*")')


class RowFile(Mapping[str, Any]):
    """id -> row; memory holds the ids and where their lines stand, not the rows."""

    def __init__(self, path: Path) -> None:
        self._at: dict[str, tuple[int, int]] = {}
        with path.open("rb") as file:
            empty = path.stat().st_size == 0
            self._bytes: Any = (
                b"" if empty else mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            )
        start = 0
        while start < len(self._bytes):
            end = self._bytes.find(b"\n", start)
            end = len(self._bytes) if end < 0 else end
            if end > start:
                self._at[self._id(start, end)] = (start, end)
            start = end + 1

    def _id(self, start: int, end: int) -> str:
        match = ID.match(self._bytes, start, end)
        key = json.loads(match[1]) if match else json.loads(self._bytes[start:end])["id"]
        return str(key)

    def __getitem__(self, key: str) -> Any:
        start, end = self._at[key]
        return json.loads(self._bytes[start:end])

    def __iter__(self) -> Iterator[str]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)
