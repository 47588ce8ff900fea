"""A list of URLs, in the recipe or in a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from llmctl.errors import InputError
from llmctl.rag.fetching import Fetcher
from llmctl.rag.sources._web import WebSource
from llmctl.rag.sources.base import Unit


class UrlsSource(WebSource):
    """Each page is one document; links in it are not followed."""

    urls: tuple[str, ...] = Field((), description="Addresses of pages, in the order to read them.")
    file: Path | None = Field(
        None, description="A file with one address per line; `#` begins a comment."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.urls and self.file is None:
            raise ValueError("give `urls` or `file`")
        return self

    def addresses(self, fetcher: Fetcher) -> Iterator[tuple[str, dict[str, Any]] | Unit]:
        """Those of the recipe, then those of the file."""
        for url in self.urls:
            yield url.partition("#")[0].strip(), {}
        if self.file is not None:
            try:
                lines = self.file.read_text(encoding="utf-8").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{self.file}: is no list of addresses: {error}") from None
            for line in lines:
                if url := line.partition("#")[0].strip():
                    yield url, {}

    def label(self) -> str:
        """The file, or the first address."""
        return str(self.file) if self.file is not None else self.urls[0]

    def inputs(self) -> dict[str, Path | str]:
        """The list itself is known before the run."""
        return {"file": self.file} if self.file is not None else {}
