"""PDF: the text of each page; a form feed ends a page, so that a chunk knows its page."""

from __future__ import annotations

import logging
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Reader, Unreadable


class PdfReader(Reader):
    """Pages with a text layer; a scan without one is reported, not guessed at."""

    needs: ClassVar[dict[str, str]] = {"pypdf": "rag"}

    patterns: tuple[str, ...] = Field(
        ("*.pdf",), min_length=1, description="File names that are PDF."
    )
    max_pages: int = Field(
        5000, gt=0, description="A file with more pages is reported instead of read."
    )

    def read(self, path: Path) -> Parsed:
        """The text of all pages."""
        import pypdf
        from pypdf.errors import DependencyError, PyPdfError

        logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # its warnings say nothing to a user
        if path.stat().st_size == 0:
            raise Unreadable("empty", "0 bytes, no text")
        try:
            pdf = pypdf.PdfReader(path)
            if pdf.is_encrypted and not pdf.decrypt(""):
                raise Unreadable("encrypted", "a password is needed; decrypt the file first")
            if len(pdf.pages) > self.max_pages:
                raise Unreadable("too_many_pages", f"{len(pdf.pages)} > {self.max_pages} pages")
            pages = [page.extract_text().replace("\f", " ") for page in pdf.pages]
            meta = {"pages": len(pages), **_told(pdf)}
        except Unreadable:
            raise
        except DependencyError:
            raise Unreadable("encrypted", "its cipher cannot be read; decrypt it first") from None
        except (PyPdfError, ValueError, KeyError, TypeError, AttributeError, IndexError,
                OSError, RecursionError, AssertionError) as error:  # fmt: skip
            # pypdf answers a damaged file with whichever exception its parser happens to meet
            what = (str(error).splitlines() or [""])[0]
            raise Unreadable("broken_pdf", f"{type(error).__name__}: {what}"[:200]) from None
        if not any(page.strip() for page in pages):
            raise Unreadable("no_text", f"{len(pages)} pages without a text layer; run OCR first")
        return Parsed("\f".join(pages), meta.pop("title", ""), paged=True, meta=meta)


def _told(pdf: Any) -> dict[str, Any]:
    """Title, author and dates as the file tells them; a damaged entry is left out."""
    found: dict[str, Any] = {}
    names = {"title": "title", "author": "author", "subject": "subject", "keywords": "keywords",
             "creation_date": "created", "modification_date": "modified"}  # fmt: skip
    for theirs, ours in names.items():
        try:
            value = getattr(pdf.metadata, theirs, None)
        except Exception:  # dates above all are written in every way but the right one
            continue
        if isinstance(value, datetime):
            found[ours] = value.isoformat()
        elif isinstance(value, str) and value.strip():
            found[ours] = " ".join(value.split())[:1000]
    return found
