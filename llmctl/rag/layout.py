"""Docling's side of the reader `docling`: its pipeline, its failures, its document as Markdown."""

from __future__ import annotations

import logging
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from llmctl.errors import MissingError
from llmctl.modelref import silenced
from llmctl.rag.readers.base import Unreadable

FORMATS = ("pdf", "image", "docx", "pptx", "xlsx", "doc", "ppt", "xls", "rtf",
           "odt", "ods", "odp", "epub", "html")  # fmt: skip
"""What docling is asked for. LaTeX would read other files, sound and film need speech models; for
plainer kinds of text there are readers that do the same in a thousandth of the time."""
DIGEST = re.compile(r" (?:with hash )?[0-9a-f]{64}")
PAGE = "\f"
NUMBER = re.compile("\x02([0-9]{1,9});")
"""Stands in front of an item while the document is put together."""


def convert(path: Path, settings: Mapping[str, bool], max_pages: int) -> Any:
    """Docling's result for one file, whole or without some pages; raises Unreadable, MissingError.

    MissingError is what no other file would get past either: models or a library.
    """
    with _quiet():
        try:
            done = _converter(tuple(sorted(settings.items()))).convert(
                path, raises_on_error=False, max_num_pages=max_pages
            )
        except MissingError:
            raise
        except StopIteration:
            raise Unreadable("unknown_format", "docling does not know this kind of file") from None
        except ImportError as error:
            raise MissingError(f"the reader docling: {_line(error)}") from None
        except Exception as error:
            # its formats fail with the errors of a dozen libraries
            raise Unreadable("broken_layout", f"{type(error).__name__}: {_line(error)}") from None
    status = done.status.value
    if status == "skipped":
        raise Unreadable("unknown_format", "docling is not asked for this kind of file")
    if status not in ("success", "partial_success"):
        raise _reason(path, done, max_pages)
    return done


def _reason(path: Path, done: Any, max_pages: int) -> Unreadable:
    """Why a file was not read at all."""
    from docling.datamodel.document import get_input_rejection_cause

    count = done.input.page_count
    if count > max_pages:
        return Unreadable("too_many_pages", f"{count} > {max_pages} pages")
    if done.input.format.value == "pdf" and _locked(path):
        return Unreadable("encrypted", "a password is needed; decrypt the file first")
    cause = get_input_rejection_cause(done.input)
    if cause is not None and "LibreOffice is required" in str(cause):  # .doc, .xls, .ppt, .rtf
        raise MissingError(f"the reader docling: {_line(cause)}")
    errors = dict.fromkeys(
        [_line(cause)] if cause else [_line(e.error_message) for e in done.errors]
    )
    return Unreadable("broken_layout", ("; ".join(errors) or "docling cannot read it")[:200])


def _locked(path: Path) -> bool:
    """Whether a PDF has a password; docling itself only says that it cannot load the file."""
    import pypdfium2

    try:
        pypdfium2.PdfDocument(path).close()
    except pypdfium2.PdfiumError as error:
        return "password" in str(error).lower()
    return False


def _line(error: object) -> str:
    """What an error says first, in one line and without the digests of files."""
    said = DIGEST.sub("", str(error)).strip()
    return (said.splitlines() or [type(error).__name__])[0][:200]


@cache
def _converter(settings: tuple[tuple[str, bool], ...]) -> Any:
    """One converter for all files: its models are loaded once."""
    from docling.datamodel.base_models import InputFormat
    from docling.datamodel.pipeline_options import PdfPipelineOptions
    from docling.document_converter import DocumentConverter, ImageFormatOption, PdfFormatOption
    from docling.pipeline.standard_pdf_pipeline import StandardPdfPipeline

    class Pipeline(StandardPdfPipeline):  # type: ignore[misc]
        """Docling's own, which says in one line that its models are not here."""

        def __init__(self, pipeline_options: Any) -> None:
            try:
                with silenced():
                    super().__init__(pipeline_options)
            except Exception as error:  # of the hub, of the disk, of torch
                why = textwrap.shorten(_line(error), 120, placeholder=" …")
                raise MissingError(
                    f"the reader docling cannot load its models ({why}): "
                    "docling-tools models download, then name their folder in "
                    "DOCLING_ARTIFACTS_PATH"
                ) from error

    options = PdfPipelineOptions(**dict(settings))
    return DocumentConverter(
        allowed_formats=[each for each in InputFormat if each.value in FORMATS],
        format_options={
            InputFormat.PDF: PdfFormatOption(pipeline_cls=Pipeline, pipeline_options=options),
            InputFormat.IMAGE: ImageFormatOption(pipeline_cls=Pipeline, pipeline_options=options),
        },
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """No log of docling's libraries, some of which write to stdout; dropped.jsonl says the rest."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(before)


def failed_pages(done: Any) -> Iterator[tuple[int, str]]:
    """(number, why) of each page that is missing in a document that was read for the rest."""
    why = {each.page_no: _line(each.error_message) for each in done.errors if each.page_no}
    yield from sorted(why.items())


def title(document: Any) -> str:
    """The text that docling takes for the title; empty when there is none."""
    from docling_core.types.doc import DocItemLabel

    found = (each.text for each in document.texts if each.label == DocItemLabel.TITLE)
    return " ".join(next(found, "").split())


def markdown(document: Any, into_pictures: bool) -> str:
    """A document as Markdown with one form feed less than it has pages.

    Docling's own page breaks do not count pages without text, before the first one with text, and
    inside lists. A paragraph that goes on on the next page stays whole, on the page that it begins
    on. `into_pictures`: a page that was recognised is text inside one picture.
    """
    from docling_core.transforms.serializer.markdown import MarkdownDocSerializer, MarkdownParams
    from docling_core.types.doc import DocItem

    last = max(document.pages, default=1)

    class Serializer(MarkdownDocSerializer):  # type: ignore[misc]
        """Puts the number of its page in front of each item."""

        def serialize(self, *, item: Any = None, **keys: Any) -> Any:
            found = super().serialize(item=item, **keys)
            if found.text and isinstance(item, DocItem) and item.prov:
                found.text = f"\x02{item.prov[0].page_no};{found.text}"
            return found

    parameters = MarkdownParams(
        image_placeholder="",
        escape_html=False,
        escape_underscores=False,
        compact_tables=True,  # padded cells fill chunks with spaces
        traverse_pictures=into_pictures,
    )
    marked = str(Serializer(doc=document, params=parameters).serialize().text)
    page = 1

    def turned(mark: re.Match[str]) -> str:
        nonlocal page
        ends = min(int(mark[1]), last) - page
        page += max(ends, 0)
        # a line of its own, so that a heading stays at the start of a line
        return f"{PAGE * ends}\n\n" if ends > 0 else ""

    text = NUMBER.sub(turned, marked.replace(PAGE, " ")).replace("&#124;", "\\|")  # in tables
    return text + PAGE * (last - page)
