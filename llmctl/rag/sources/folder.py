"""A document, or a folder that is read recursively: `source: docs` is short for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from llmctl import digest
from llmctl.rag.sources.base import Source, Unit


class FolderSource(Source):
    """Every file below a folder, in the order of their paths; hidden files are left out."""

    path: Path = Field(description="A document, or a folder that is read recursively.")

    def units(self, scratch: Path) -> Iterator[Unit]:
        """The files, named relative to the folder."""
        for path in self.files():
            uri = path.name if path == self.path else path.relative_to(self.path).as_posix()
            yield Unit(uri, path)

    def files(self) -> Iterator[Path]:
        """The files alone."""
        if self.path.is_file():
            yield self.path
            return
        for path in digest.files_of(self.path):
            if not any(part.startswith(".") for part in path.relative_to(self.path).parts):
                yield path

    def label(self) -> str:
        """The path."""
        return str(self.path)

    def inputs(self) -> dict[str, Path | str]:
        """The folder's bytes decide whether a run is needed."""
        return {"": self.path}
