"""A document, or a folder that is read recursively: `source: docs` is short for it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from llmctl import digest
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources.base import Source, Unit


class FolderSource(Source):
    """Every file below a folder, in the order of their paths; hidden files are left out."""

    path: Path = Field(description="A document, or a folder that is read recursively.")

    def units(self, scratch: Path) -> Iterator[Unit]:
        """The files, named relative to the folder; then the folders that may not be opened."""
        for path in self.files():
            uri = self._uri(path)
            if os.access(path, os.R_OK):
                yield Unit(uri, path)
            else:
                yield Unit(uri, error=Unreadable("unreadable", "Permission denied"))
        for path in sorted(self.path.rglob("*/")):
            if self._is_shown(path) and not os.access(path, os.R_OK | os.X_OK):
                error = Unreadable("unreadable", "a folder: Permission denied")
                yield Unit(self._uri(path), error=error)

    def files(self) -> Iterator[Path]:
        """The files alone."""
        if self.path.is_file():
            yield self.path
            return
        yield from filter(self._is_shown, digest.files_of(self.path))

    def _uri(self, path: Path) -> str:
        """The name in the folder; a byte of it that is no UTF-8 is shown as its escape."""
        name = path.name if path == self.path else path.relative_to(self.path).as_posix()
        return os.fsencode(name).decode("utf-8", "backslashreplace")

    def _is_shown(self, path: Path) -> bool:
        return not any(part.startswith(".") for part in path.relative_to(self.path).parts)

    def label(self) -> str:
        """The path."""
        return str(self.path)

    def inputs(self) -> dict[str, Path | str]:
        """The folder's bytes decide whether a run is needed."""
        return {"": self.path}
