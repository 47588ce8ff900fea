"""What the sources on the web share: manners, limits, and a page as a unit."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl import __version__
from llmctl.rag.fetching import Fetcher, check_online
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources.base import Source, Unit


class WebSource(Source):
    """Pages over http and https; robots.txt is obeyed and no private address is asked."""

    needs: ClassVar[dict[str, str]] = {"httpx": "rag"}

    user_agent: str = Field(
        f"llmctl/{__version__}",
        min_length=1,
        pattern=r"^[\x20-\x7e]+$",
        description="Name told to servers and looked for in robots.txt.",
    )
    delay: float = Field(
        1.0, ge=0, le=3600, description="Seconds between two requests to the same host."
    )
    timeout: float = Field(30.0, gt=0, le=3600, description="Seconds that one page may take.")
    page_bytes: int = Field(
        20_000_000, gt=0, description="A larger page is reported instead of fetched."
    )
    limit: int = Field(1000, gt=0, description="Most pages that are fetched.")
    allow_private: bool = Field(
        False, description="Also fetch from private, loopback and link-local addresses."
    )

    def always(self) -> str:
        """Nobody knows whether a page has changed without asking."""
        return f"the pages of {self.label()} are asked again on every run"

    def fetcher(self, scratch: Path) -> Fetcher:
        """The one client of a run."""
        check_online(self.label())
        return Fetcher(
            scratch / "pages",
            self.user_agent,
            self.allow_private,
            self.delay,
            self.timeout,
            self.page_bytes,
        )

    @abstractmethod
    def addresses(self, fetcher: Fetcher) -> Iterator[tuple[str, dict[str, Any]] | Unit]:
        """(url, what is told of it) of each page, or a unit that says what went wrong."""

    def units(self, scratch: Path) -> Iterator[Unit]:
        """The pages in their order, each fetched once."""
        fetcher = self.fetcher(scratch)
        seen: set[str] = set()
        for each in self.addresses(fetcher):
            if isinstance(each, Unit):
                yield each
                continue
            url, told = each
            if url in seen:
                continue
            if len(seen) == self.limit:
                yield Unit(url, error=Unreadable("limit", f"more than {self.limit} pages"))
                return
            seen.add(url)
            yield self.unit(fetcher, url, told)

    def unit(self, fetcher: Fetcher, url: str, told: dict[str, Any]) -> Unit:
        """One page, or why it could not be fetched."""
        try:
            page = fetcher.page(url)
        except Unreadable as error:
            return Unit(url, error=error, meta=told)
        meta = {**told, "url": page.url}
        if page.modified:
            meta["last_modified"] = page.modified
        return Unit(url, page.path, meta=meta)
