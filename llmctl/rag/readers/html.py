"""HTML: what a reader of the page sees, with headings and lists as Markdown lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Reader, Unreadable, decoded

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

UNSEEN = {"script", "style", "template", "noscript", "head", "title", "nav", "svg", "iframe",
          "form"}  # fmt: skip
BLOCKS = {"p", "div", "section", "article", "main", "ul", "ol", "table", "tr", "blockquote",
          "header", "footer", "aside", "figure", "dl", "dt", "dd", "body"}  # fmt: skip
TOLD = {
    "author": "author", "article:author": "author", "dc.creator": "author",
    "article:published_time": "created", "date": "created", "dc.date": "created",
    "datepublished": "created", "dcterms.created": "created",
    "article:modified_time": "modified", "last-modified": "modified", "datemodified": "modified",
    "dcterms.modified": "modified", "description": "description", "og:description": "description",
    "keywords": "keywords",
}  # fmt: skip
"""`<meta name>`, `property` or `itemprop` -> our name; the first of each kind counts."""


class HtmlReader(Reader):
    """Scripts, styles, forms and navigation are left out; `<title>` is the title."""

    needs: ClassVar[dict[str, str]] = {"beautifulsoup4": "rag"}

    patterns: tuple[str, ...] = Field(
        ("*.html", "*.htm", "*.xhtml"), min_length=1, description="File names that are HTML."
    )

    def read(self, path: Path) -> Parsed:
        """The visible text."""
        return parse_html(path.read_bytes())


def parse_html(data: bytes | str, encoding: str | None = None) -> Parsed:
    """The visible text, title and meta of a page; raises Unreadable.

    Bytes are decoded as `encoding`, else by their byte order mark or `<meta charset>`, else UTF-8;
    what is not valid in that encoding and not in UTF-8 is refused.
    """
    from bs4 import BeautifulSoup

    source = data if isinstance(data, str) else _decoded(data, encoding)
    try:
        soup = BeautifulSoup(source, "html.parser")
        text = re.sub(r"\n[ \t]*(?:\n[ \t]*)+", "\n\n", _text(soup)).strip()
    except (RecursionError, AssertionError):
        raise Unreadable("broken_html", "its elements are nested too deeply") from None
    if not text:
        raise Unreadable("no_text", "the page shows no text")
    title = soup.title or soup.h1
    words = " ".join(title.get_text().split()) if title else ""
    return Parsed(text, words, headed=True, meta=_meta(soup))


def _decoded(data: bytes, encoding: str | None) -> str:
    from bs4.dammit import EncodingDetector

    marks = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16", b"\xef\xbb\xbf": "utf-8"}
    marked = next((name for mark, name in marks.items() if data.startswith(mark)), None)
    declared = EncodingDetector.find_declared_encoding(data, is_html=True)
    found = marked or encoding or declared or "utf-8"
    if found.lower() in ("iso-8859-1", "latin1", "latin-1", "ascii", "us-ascii"):
        found = "windows-1252"  # what every browser takes these names for (WHATWG Encoding)
    try:
        return decoded(data, found)
    except Unreadable as error:
        if error.reason in ("empty", "binary") or found == "utf-8":
            raise
        return decoded(data, "utf-8")  # pages often declare what their server once had


def _meta(soup: BeautifulSoup) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for tag in soup.find_all("meta"):
        name = str(tag.get("name") or tag.get("property") or tag.get("itemprop") or "").lower()
        content = " ".join(str(tag.get("content") or "").split())
        if name in TOLD and content:
            found.setdefault(TOLD[name], content[:1000])
    if soup.html and (language := soup.html.get("lang")):
        found["language"] = str(language)
    when = soup.find("time", attrs={"datetime": True})
    if when is not None:
        found.setdefault("created", str(when["datetime"]))
    return found


def _text(node: Tag) -> str:
    from bs4 import Comment, NavigableString, Tag
    from bs4.element import PreformattedString

    parts: list[str] = []
    for child in node.children:
        if isinstance(child, Comment | PreformattedString):
            continue  # comments, doctype, CDATA: not shown
        if isinstance(child, NavigableString):
            parts.append(re.sub(r"\s+", " ", str(child)))
        elif isinstance(child, Tag) and child.name not in UNSEEN:
            parts.append(_element(child))
    return "".join(parts)


def _element(tag: Tag) -> str:
    if re.fullmatch(r"h[1-6]", tag.name):
        return f"\n\n{'#' * int(tag.name[1])} {' '.join(tag.get_text().split())}\n\n"
    if tag.name == "pre":
        return f"\n\n```\n{tag.get_text().strip()}\n```\n\n"
    if tag.name == "br":
        return "\n"
    inner = _text(tag)
    if tag.name == "li":
        return f"\n- {inner.strip()}\n"
    if tag.name in ("td", "th"):
        return f"{inner.strip()} | "
    return f"\n\n{inner.strip()}\n\n" if tag.name in BLOCKS else inner
