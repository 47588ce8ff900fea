"""Documents by their layout, with docling: columns, tables and reading order by trained models.

Slower by orders of magnitude than the readers `pdf` and `docx`, and installed with an extra of its
own. For PDF and pictures its models come from the hub, or from the folder in
`DOCLING_ARTIFACTS_PATH`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.rag.packages import MAX_DEPTH, package
from llmctl.rag.readers.base import Parsed, Reader, Unreadable, first
from llmctl.rag.readers.epub import locked

PACKAGES = (".docx", ".pptx", ".xlsx", ".epub", ".odt", ".ods", ".odp")
MARKS = ("[Content_Types].xml", "mimetype")
"""Members of which every Office, OpenDocument or EPUB file has one; docling reads any ZIP."""
PAGES = (".html", ".htm", ".xhtml")


class DoclingReader(Reader):
    """Markdown as docling exports it, with its headings and tables; pictures are left out."""

    # docling itself is a thin package: these two read the PDF and write the Markdown
    needs: ClassVar[dict[str, str]] = dict.fromkeys(
        ("docling", "docling-core", "docling-parse"), "layout"
    )

    patterns: tuple[str, ...] = Field(
        ("*.pdf",),
        min_length=1,
        description="File names that docling reads: PDF, pictures, Office, OpenDocument, "
        "EPUB, HTML.",
    )
    ocr: bool = Field(
        False, description="Whether text in pictures and on scanned pages is recognised."
    )
    tables: bool = Field(
        True, description="Whether a model of its own finds the cells of tables in a PDF."
    )
    max_pages: int = Field(
        500, gt=0, description="A file with more pages is reported instead of read."
    )

    def settings(self) -> dict[str, bool]:
        """What the pipeline of PDF and pictures is told."""
        return {"do_ocr": self.ocr, "do_table_structure": self.tables}

    def read(self, path: Path) -> Parsed:
        """The whole document, without the pages that could not be read."""
        return first(
            (each for each in self.read_all(path) if isinstance(each[1], Parsed)),
            Unreadable("no_text", "docling finds no text"),
        )

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """The document, then each page of it that could not be read."""
        from llmctl.rag import layout

        check(path)
        done = layout.convert(path, self.settings(), self.max_pages)
        text = layout.markdown(done.document, into_pictures=self.ocr)
        if not text.strip():
            hint = "" if self.ocr else "; does it need `ocr: true`?"
            raise Unreadable("no_text", f"docling finds no text{hint}")
        meta: dict[str, Any] = {}
        if count := len(done.document.pages):
            meta["pages"] = count
        title = layout.title(done.document)
        yield "", Parsed(text, title, headed=True, paged=bool(count), meta=meta)
        for number, why in layout.failed_pages(done):
            yield f"page={number}", Unreadable("broken_page", why)


def check(path: Path) -> None:
    """Refuse what docling would open without limits; raises Unreadable."""
    if path.stat().st_size == 0:
        raise Unreadable("empty", "0 bytes, no text")
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped or suffix in PACKAGES:
        with package(path) as opened:
            names = opened.namelist()
            if not any(mark in names for mark in MARKS):
                raise Unreadable("broken_package", "no Office, OpenDocument or EPUB file")
            if any(name.lower().endswith(PAGES) for name in locked(opened)):
                raise Unreadable("encrypted", "its chapters are locked; remove the protection")
            for name in names:
                if name.lower().endswith(PAGES):
                    _check_depth(opened.read(name))
    elif suffix in PAGES:
        _check_depth(path.read_bytes())


def _check_depth(html: bytes) -> None:
    """Docling's time grows with the square of how deep elements nest: minutes at 30,000."""
    from bs4 import BeautifulSoup, Tag

    level: list[Any] = [BeautifulSoup(html, "html.parser")]
    for _ in range(MAX_DEPTH + 1):
        level = [each for node in level for each in node.children if isinstance(each, Tag)]
        if not level:
            return
    raise Unreadable("too_deep", f"HTML elements nest deeper than {MAX_DEPTH}")
