"""HTML: what a reader of the page sees, with headings and lists as Markdown lines."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Reader, Unreadable, decoded

if TYPE_CHECKING:
    from bs4 import Tag

UNSEEN = {"script", "style", "template", "noscript", "head", "nav", "svg", "iframe", "form"}
BLOCKS = {"p", "div", "section", "article", "main", "ul", "ol", "table", "tr", "blockquote",
          "header", "footer", "aside", "figure", "dl", "dt", "dd", "body"}  # fmt: skip


class HtmlReader(Reader):
    """Scripts, styles, forms and navigation are left out; `<title>` is the title."""

    needs: ClassVar[dict[str, str]] = {"beautifulsoup4": "rag"}

    patterns: tuple[str, ...] = Field(
        ("*.html", "*.htm", "*.xhtml"), min_length=1, description="File names that are HTML."
    )

    def read(self, path: Path) -> Parsed:
        """The visible text."""
        from bs4 import BeautifulSoup
        from bs4.dammit import EncodingDetector

        data = path.read_bytes()
        declared = EncodingDetector.find_declared_encoding(data, is_html=True)
        source = decoded(data, declared or "utf-8")
        try:
            soup = BeautifulSoup(source, "html.parser")
            text = re.sub(r"\n[ \t]*(?:\n[ \t]*)+", "\n\n", _text(soup)).strip()
        except RecursionError:
            raise Unreadable("broken_html", "its elements are nested too deeply") from None
        if not text:
            raise Unreadable("no_text", "the page shows no text")
        title = soup.title or soup.h1
        return Parsed(text, " ".join(title.get_text().split()) if title else "", headed=True)


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
