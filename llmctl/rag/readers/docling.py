"""Documents by their layout, with docling: columns, tables and reading order by trained models.

Slower by orders of magnitude than the readers `pdf` and `docx`, and installed with an extra of its
own. For PDF its models come from the hub, or from the folder in `DOCLING_ARTIFACTS_PATH`.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.errors import MissingError
from llmctl.rag.packages import package
from llmctl.rag.readers.base import Parsed, Reader, Unreadable

PACKAGES = (".docx", ".pptx", ".xlsx", ".epub", ".odt")
PAGE = "\f"


class DoclingReader(Reader):
    """Markdown as docling exports it, with its headings and tables; pictures are left out."""

    needs: ClassVar[dict[str, str]] = {"docling": "layout"}

    patterns: tuple[str, ...] = Field(
        ("*.pdf",), min_length=1, description="File names that docling reads, of any of its kinds."
    )
    ocr: bool = Field(False, description="Whether scanned pages of a PDF are recognised.")
    max_pages: int = Field(
        500, gt=0, description="A file with more pages is reported instead of read."
    )

    def settings(self) -> dict[str, Any]:
        """What the PDF pipeline is told."""
        return {"do_ocr": self.ocr}

    def read(self, path: Path) -> Parsed:
        """The whole document."""
        if path.stat().st_size == 0:
            raise Unreadable("empty", "0 bytes, no text")
        if path.suffix.lower() in PACKAGES:
            with package(path):
                pass  # docling opens it without limits
        from docling.exceptions import BaseError

        logging.getLogger("docling").setLevel(logging.CRITICAL)  # said in dropped.jsonl instead
        try:
            done = _converter(tuple(self.settings().items())).convert(
                path, max_num_pages=self.max_pages
            )
        except BaseError as error:
            what = " ".join(str(error).split())
            raise Unreadable("broken_layout", what[:200]) from None
        except OSError as error:
            if not type(error).__module__.startswith("huggingface_hub"):
                raise
            raise MissingError(
                "the reader docling needs its models: docling-tools models download, "
                "then name their folder in DOCLING_ARTIFACTS_PATH"
            ) from None
        text = done.document.export_to_markdown(
            page_break_placeholder=PAGE,
            image_placeholder="",
            escape_html=False,
            escape_underscores=False,
        )
        if not text.strip():
            raise Unreadable("no_text", "docling finds no text; does it need `ocr: true`?")
        heads = [line[2:].strip() for line in text.split("\n") if line.startswith("# ")]
        paged = bool(done.document.pages)
        meta = {"pages": len(done.document.pages)} if paged else {}
        return Parsed(text, heads[0] if heads else "", headed=True, paged=paged, meta=meta)


@cache
def _converter(settings: tuple[tuple[str, Any], ...]) -> Any:
    """One converter for all files: its models are loaded once."""
    from docling.datamodel.base_models import InputFormat
    from docling.datamodel.pipeline_options import PdfPipelineOptions
    from docling.document_converter import DocumentConverter, PdfFormatOption

    options = PdfPipelineOptions(**dict(settings))
    return DocumentConverter(
        format_options={InputFormat.PDF: PdfFormatOption(pipeline_options=options)}
    )
