"""The pages that a site lists in its sitemap.xml, also through an index of sitemaps."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatch
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from llmctl.rag.fetching import Fetcher, normal, unzipped
from llmctl.rag.packages import parse_xml
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources._web import WebSource
from llmctl.rag.sources.base import Unit

DEEPEST = 3
MOST_MAPS = 1000
LARGEST = 52_428_800
"""Bytes of one sitemap, as its protocol says."""


class SitemapSource(WebSource):
    """Only pages of the sitemap's own host, as its protocol asks."""

    url: str = Field(pattern=r"^https?://\S+$", description="Address of the sitemap.")
    include: tuple[str, ...] = Field(
        ("*",), min_length=1, description="Shell patterns; the path of a page must fit one of them."
    )

    def addresses(self, fetcher: Fetcher) -> Iterator[tuple[str, dict[str, Any]] | Unit]:
        """The listed pages in the order of the sitemap."""
        yield from self._listed(fetcher, self.url, 0, [0])

    def _listed(
        self, fetcher: Fetcher, url: str, depth: int, maps: list[int]
    ) -> Iterator[tuple[str, dict[str, Any]] | Unit]:
        maps[0] += 1
        try:
            if depth > DEEPEST or maps[0] > MOST_MAPS:
                raise Unreadable("limit", "too many sitemaps in sitemaps")
            data = fetcher.page(url).path.read_bytes()
            if data.startswith(b"\x1f\x8b"):
                data = unzipped(data, LARGEST)
            if len(data) > LARGEST:
                raise Unreadable("too_large", f"a sitemap of more than {LARGEST} bytes")
            root = parse_xml(data)
            if root.tag not in ("urlset", "sitemapindex"):
                raise Unreadable("broken_xml", f"<{root.tag[:50]}> is no sitemap")
        except Unreadable as error:
            yield Unit(url, error=error)
            return
        for entry in root:
            found = (entry.findtext("loc") or "").strip()
            try:
                address = normal(found)
                if urlsplit(address).netloc != urlsplit(self.url).netloc:
                    raise Unreadable("other_host", f"{url} lists a page of another host")
            except Unreadable as error:
                yield Unit(found or url, error=error)
                continue
            if entry.tag == "sitemap":
                yield from self._listed(fetcher, address, depth + 1, maps)
            elif any(fnmatch(urlsplit(address).path, each) for each in self.include):
                changed = (entry.findtext("lastmod") or "").strip()
                yield address, {"lastmod": changed} if changed else {}

    def label(self) -> str:
        """The sitemap's address."""
        return self.url
