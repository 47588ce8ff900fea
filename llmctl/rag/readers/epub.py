"""EPUB books: the chapters in reading order, through the HTML reader."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar
from urllib.parse import unquote
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from pydantic import Field

from llmctl.rag.packages import member, package, xml_of
from llmctl.rag.readers.base import Parsed, Reader, Unreadable
from llmctl.rag.readers.html import parse_html

TOLD = {"title": "title", "creator": "author", "language": "language", "date": "created",
        "identifier": "identifier", "publisher": "publisher"}  # fmt: skip


class EpubReader(Reader):
    """A book without copy protection; pictures and the table of contents are left out."""

    needs: ClassVar[dict[str, str]] = {"beautifulsoup4": "rag"}

    patterns: tuple[str, ...] = Field(
        ("*.epub",), min_length=1, description="File names that are EPUB books."
    )

    def read(self, path: Path) -> Parsed:
        """The whole book."""
        with package(path) as opened:
            root = xml_of(opened, "META-INF/container.xml").find("rootfiles/rootfile")
            name = root.get("full-path", "") if root is not None else ""
            book = xml_of(opened, name)
            meta = _meta(book)
            closed = locked(opened)
            chapters = []
            for part in _spine(book, name):
                if part in closed:
                    raise Unreadable("encrypted", "the book has copy protection")
                if text := _chapter(member(opened, part)):
                    chapters.append(text)
        if not chapters:
            raise Unreadable("no_text", "no chapter has text")
        title = meta.pop("title", "")
        return Parsed("\n\n".join(chapters), title, headed=True, meta=meta)


def _meta(book: Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for each in book.iterfind("metadata/*"):
        words = " ".join((each.text or "").split())
        if each.tag in TOLD and words:
            found.setdefault(TOLD[each.tag], words)
    return found


def _spine(book: Element, name: str) -> Iterator[str]:
    """Members in reading order."""
    folder = PurePosixPath(name).parent
    items = {each.get("id"): each for each in book.iterfind("manifest/item")}
    for entry in book.iterfind("spine/itemref"):
        item = items.get(entry.get("idref"))
        if item is None or "nav" in item.get("properties", "").split():
            continue
        if "html" in item.get("media-type", "html"):
            parts: list[str] = []
            for part in (folder / unquote(item.get("href", ""))).parts:
                parts = parts[:-1] if part == ".." else [*parts, part]
            yield "/".join(parts)


def locked(opened: ZipFile) -> set[str]:
    """Members that are encrypted; publishers also list fonts, which nobody needs here."""
    if "META-INF/encryption.xml" not in opened.namelist():
        return set()
    references = xml_of(opened, "META-INF/encryption.xml").iter("CipherReference")
    return {unquote(each.get("URI", "")) for each in references}


def _chapter(data: bytes) -> str:
    try:
        return parse_html(data).text
    except Unreadable as error:
        if error.reason in ("no_text", "empty"):
            return ""  # a picture or a blank page
        raise
