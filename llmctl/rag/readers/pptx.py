"""PowerPoint slides: each slide is a page with its title as a heading, and the speaker's notes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import Element
from zipfile import ZipFile

from pydantic import Field

from llmctl.rag.packages import markdown_table, package, properties, relations, xml_of
from llmctl.rag.readers.base import Parsed, Reader, Unreadable

SHOW = "ppt/presentation.xml"
TITLES = ("title", "ctrTitle")
FURNITURE = ("sldNum", "dt", "ftr", "hdr")


class PptxReader(Reader):
    """Text and tables of the slides in their order, without slide numbers, dates and footers."""

    patterns: tuple[str, ...] = Field(
        ("*.pptx", "*.pptm", "*.ppsx"),
        min_length=1,
        description="File names that are PowerPoint presentations.",
    )
    notes: bool = Field(True, description="Whether the speaker's notes are read too.")

    def read(self, path: Path) -> Parsed:
        """One page per slide."""
        with package(path) as opened:
            targets = relations(opened, SHOW)
            pages = []
            for each in xml_of(opened, SHOW).iter("sldId"):
                part = targets.get(each.get("relation", ""), ("", ""))[1]
                pages.append(self._slide(opened, part) if part else "")
            meta: dict[str, object] = dict(properties(opened))
        if not any(page.strip() for page in pages):
            raise Unreadable("no_text", f"{len(pages)} slides without text")
        title = str(meta.pop("title", "") or "")
        heads = [line[2:] for line in pages[0].splitlines() if line.startswith("# ")]
        if title in ("", "PowerPoint Presentation"):
            title = heads[0] if heads else ""
        meta["pages"] = len(pages)
        return Parsed("\n\f\n".join(pages), title, headed=True, paged=True, meta=meta)

    def _slide(self, opened: ZipFile, part: str) -> str:
        blocks = list(_shapes(xml_of(opened, part)))
        if self.notes:
            for kind, target in relations(opened, part).values():
                if kind == "notesSlide":
                    notes = " ".join(_shapes(xml_of(opened, target)))
                    blocks += [f"Notes: {notes}"] if notes else []
        return "\n\n".join(blocks).replace("\f", " ")


def _shapes(element: Element) -> Iterator[str]:
    for each in element:
        if each.tag == "sp":
            place = each.find("nvSpPr/nvPr/ph")
            role = place.get("type", "") if place is not None else ""
            text = "\n".join(line for p in each.iter("p") if (line := _line(p)))
            if role in TITLES and text:
                yield f"# {' '.join(text.split())}"
            elif role not in FURNITURE and text:
                yield text
        elif each.tag == "tbl":
            rows = [[" ".join(_line(p) for p in cell.iter("p")) for cell in row.iter("tc")]
                    for row in each.iter("tr")]  # fmt: skip
            if table := markdown_table(rows):
                yield table
        elif each.tag != "Fallback":
            yield from _shapes(each)


def _line(paragraph: Element) -> str:
    parts = []
    for each in paragraph:
        if each.tag in ("r", "fld"):
            parts.append("".join(text.text or "" for text in each.iter("t")))
        elif each.tag == "br":
            parts.append(" ")
    return "".join(parts).strip()
