"""The promise of a source: what it holds, one unit at a time, with a digest before any parsing."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import GetJsonSchemaHandler
from pydantic_core import CoreSchema

from llmctl import digest
from llmctl.plugins import Backend, is_promise
from llmctl.rag.readers.base import Parsed, Unreadable


@dataclass(frozen=True)
class Unit:
    """One file, page or row: read only when its digest is new.

    `path` has its bytes; a source that parses by itself (sql) gives `parsed` and `digest` instead.
    What could not be fetched has an `error`. `name` is what the readers' patterns are tried on.
    """

    uri: str
    path: Path | None = None
    name: str = ""
    meta: dict[str, Any] = field(default_factory=dict)
    parsed: Parsed | None = None
    error: Unreadable | None = None
    digest: str = ""

    @property
    def sha256(self) -> str:
        """sha256 of the content, remembered for unchanged files; empty when there is an error."""
        if self.digest or self.path is None:
            return self.digest
        return digest.of_file(self.path)


class Source(Backend):
    """Gives the units of documents, always in the same order; a text in a recipe is a folder."""

    @classmethod
    def in_full(cls, text: str) -> dict[str, Any]:
        """A text is the folder or file that it names."""
        return {"kind": "folder", "path": text}

    @classmethod
    def of(cls, value: Any) -> Self:
        """A source from its mapping, its text or a path."""
        return super().of(str(value) if isinstance(value, Path) else value)

    @abstractmethod
    def units(self, scratch: Path) -> Iterator[Unit]:
        """All units; what is fetched is kept in `scratch`, so that a killed run goes on there."""

    @abstractmethod
    def label(self) -> str:
        """The source in a message, without secrets."""

    def inputs(self) -> dict[str, Path | str]:
        """Key below `source` ('' is `source` itself) -> local file or folder that must exist."""
        return {}

    def revisions(self) -> dict[str, str]:
        """Key below `source` -> what it names now, where that can be known before the run."""
        return {}

    def always(self) -> str:
        """Why a run cannot be skipped; empty when inputs and revisions tell of every change."""
        return ""

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        found = super().__get_pydantic_json_schema__(schema, handler)
        if is_promise(cls):
            found["anyOf"][0] = {"type": "string"}  # a path, where other rooms take a kind
        return found
