"""Word documents: headings, lists and tables as Markdown, footnotes at the end."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from pydantic import Field

from llmctl.rag.packages import markdown_table, package, properties, xml_of
from llmctl.rag.readers.base import Parsed, Reader, Unreadable

UNSEEN = {"del", "moveFrom", "Fallback", "instrText", "pPr", "rPr"}
"""Deleted text, and the second copy of a text box for old programs."""


class DocxReader(Reader):
    """What is on the pages; headers, footers, comments and deleted text are left out."""

    patterns: tuple[str, ...] = Field(
        ("*.docx", "*.docm", "*.dotx"),
        min_length=1,
        description="File names that are Word documents.",
    )

    def read(self, path: Path) -> Parsed:
        """The text in reading order."""
        with package(path) as opened:
            body = xml_of(opened, "word/document.xml").find("body")
            levels = _levels(opened)
            blocks = list(_blocks(body, levels)) if body is not None else []
            if "word/footnotes.xml" in opened.namelist():
                notes = xml_of(opened, "word/footnotes.xml")
                blocks += [text for note in notes if (text := _plain(note))]
            meta = properties(opened)
        text = "\n\n".join(blocks)
        if not text.strip():
            raise Unreadable("no_text", "the document has no text; is it a scan?")
        title = meta.pop("title", "")
        first = re.match(r"# (.+)", text)
        return Parsed(text, title or (first[1] if first else ""), headed=True, meta=meta)


def _levels(opened: ZipFile) -> dict[str, int]:
    """Style -> level of heading, 1 to 6; a style may have it from the one that it is based on."""
    if "word/styles.xml" not in opened.namelist():
        return {}
    levels: dict[str, int] = {}
    based: dict[str, str] = {}
    for style in xml_of(opened, "word/styles.xml").iter("style"):
        ident = style.get("styleId", "")
        name = _value(style, "name").lower()
        outline = _value(style, "pPr/outlineLvl")
        if name == "title":
            levels[ident] = 1
        elif match := re.fullmatch(r"heading ([1-9])", name):
            levels[ident] = min(int(match[1]), 6)
        elif outline.isdigit() and int(outline) < 9:
            levels[ident] = min(int(outline) + 1, 6)
        elif parent := _value(style, "basedOn"):
            based[ident] = parent
    for style_id, parent in based.items():
        for _ in range(9):  # styles that are based on each other in a circle end here
            if parent in levels:
                levels[style_id] = levels[parent]
                break
            parent = based.get(parent, "")
    return levels


def _value(element: Element, path: str) -> str:
    found = element.find(path)
    return found.get("val", "") if found is not None else ""


def _blocks(parent: Element, levels: dict[str, int]) -> Iterator[str]:
    for each in parent:
        if each.tag == "p":
            if text := _paragraph(each, levels):
                yield text
        elif each.tag == "tbl":
            if table := markdown_table([_row(row) for row in _under(each, "tr")]):
                yield table
        elif each.tag not in UNSEEN:  # content controls and other wrappers
            yield from _blocks(each, levels)


def _paragraph(paragraph: Element, levels: dict[str, int]) -> str:
    text = _text(paragraph).strip()
    style = _value(paragraph, "pPr/pStyle")
    outline = _value(paragraph, "pPr/outlineLvl")
    level = levels.get(style) or (min(int(outline) + 1, 6) if outline in set("012345678") else 0)
    if text and level:
        return f"{'#' * level} {' '.join(text.split())}"
    if text and paragraph.find("pPr/numPr") is not None:
        return f"- {text}"
    return text


def _row(row: Element) -> list[str]:
    cells: list[str] = []
    for cell in _under(row, "tc"):
        cells.append(_plain(cell))
        span = _value(cell, "tcPr/gridSpan")
        cells += [""] * (min(int(span), 64) - 1 if span.isdigit() else 0)
    return cells


def _under(element: Element, tag: str) -> Iterator[Element]:
    """The nearest elements of a kind, through wrappers but not through each other."""
    for each in element:
        if each.tag == tag:
            yield each
        elif each.tag not in ("tc", "p"):
            yield from _under(each, tag)


def _plain(element: Element) -> str:
    return " ".join(text for p in element.iter("p") if (text := _text(p).strip()))


def _text(element: Element) -> str:
    parts = []
    for each in element:
        if each.tag == "t":
            parts.append(each.text or "")
        elif each.tag == "tab":
            parts.append("\t")
        elif each.tag in ("br", "cr"):
            parts.append("\n")
        elif each.tag == "noBreakHyphen":
            parts.append("-")
        elif each.tag == "txbxContent":
            parts.append(f"\n{_plain(each)}\n")
        elif each.tag not in UNSEEN:
            parts.append(_text(each))
    return "".join(parts)
