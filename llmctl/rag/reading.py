"""Sources -> documents: each unit read by its reader, cleaned, and named; or left out and why.

Nothing is held but the document at hand: `units` tells what there is with a digest of each, and
`documents_of` parses one unit. A caller that knows a digest already need not parse.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl.errors import InputError, LlmctlError
from llmctl.rag import metadata
from llmctl.rag.cleaners.base import cleaned, counted
from llmctl.rag.readers.base import Parsed, Reader, Unreadable
from llmctl.rag.sources.base import Unit
from llmctl.records import Document, row_id
from llmctl.schema.ingest import IngestRecipe

DECIDED = ("no_reader", "limit", "robots", "other_host")
"""Reasons that are no error: somebody does not want the document read."""


@dataclass(frozen=True)
class Dropped:
    """What was left out; `decided` by a cleaner or for want of a reader, else it is an error."""

    uri: str
    reason: str
    detail: str
    decided: bool = False

    def row(self) -> dict[str, Any]:
        """The row of dropped.jsonl."""
        row = {"id": row_id(self.uri), "uri": self.uri, "reason": self.reason}
        return {**row, "detail": self.detail, "source": {"uri": self.uri}, "meta": {}}


def units(recipe: IngestRecipe, scratch: Path) -> Iterator[Unit]:
    """Everything that the source holds, unparsed; `scratch` keeps what had to be fetched."""
    yield from recipe.source.units(scratch)


def documents_of(
    recipe: IngestRecipe, unit: Unit, removed: Counter[str] | None = None
) -> Iterator[Document | Dropped]:
    """The documents of one unit, streamed; with `on_error: fail` an error ends the run.

    `removed` counts the characters that each kind of cleaner took out.
    """
    counts: Counter[str] = Counter() if removed is None else removed
    for uri, kind, parsed in parts(recipe, unit):
        try:
            if isinstance(parsed, Unreadable):
                yield _left_out(recipe, unit, uri, parsed)
            else:
                yield _document(recipe, unit, uri, kind, parsed, counts)
        except _Refused as refused:
            yield Dropped(uri, refused.reason, refused.detail, decided=True)


def iterate(
    recipe: IngestRecipe, scratch: Path, removed: Counter[str] | None = None
) -> Iterator[Document | Dropped]:
    """Documents and what was left out, of all units in their order."""
    for unit in units(recipe, scratch):
        yield from documents_of(recipe, unit, removed)


def read(
    recipe: IngestRecipe, metrics: dict[str, Any], scratch: Path | None = None
) -> tuple[list[Document], list[dict[str, Any]]]:
    """(documents, rows of what was left out) as lists: for small sources."""
    documents: list[Document] = []
    dropped: list[dict[str, Any]] = []
    removed: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as gone:
        for each in iterate(recipe, scratch or Path(gone), removed):
            if isinstance(each, Dropped):
                dropped.append(each.row())
            else:
                documents.append(each)
    metrics |= counted(recipe.cleaners, removed)
    return documents, dropped


class _Refused(Exception):  # noqa: N818
    """A cleaner does not want the document."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def _left_out(recipe: IngestRecipe, unit: Unit, uri: str, error: Unreadable) -> Dropped:
    decided = error.reason in DECIDED
    if recipe.on_error == "fail" and not decided:
        part = uri[len(unit.uri) :] if uri.startswith(unit.uri) else ""
        raise InputError(
            f"{unit.path or unit.uri}{part}: {error.reason}: {error.detail}; "
            "repair or remove it, or set on_error: skip"
        )
    return Dropped(uri, error.reason, error.detail, decided)


def parts(recipe: IngestRecipe, unit: Unit) -> Iterator[tuple[str, str, Parsed | Unreadable]]:
    """(uri, kind of reader, what was read) of each document in a unit; never raises Unreadable."""
    if unit.error is not None or unit.parsed is not None or unit.path is None:
        yield unit.uri, recipe.source.kind, unit.error or unit.parsed or Parsed("")
        return
    kind = ""
    try:
        reader = _reader(recipe, unit, unit.path)
        kind = reader.kind
        for fragment, parsed in reader.read_all(unit.path):
            yield f"{unit.uri}#{fragment}" if fragment else unit.uri, kind, parsed
    except LlmctlError:
        raise
    except Unreadable as error:
        yield unit.uri, kind, error
    except OSError as error:
        yield unit.uri, kind, Unreadable("unreadable", error.strerror or type(error).__name__)
    except Exception as error:
        # hostile files find exceptions in parsers that nobody knows of: one file, not the run
        what = (str(error).splitlines() or [""])[0]
        yield unit.uri, kind, Unreadable("broken", f"{type(error).__name__}: {what}"[:200])


def _reader(recipe: IngestRecipe, unit: Unit, path: Path) -> Reader:
    name = Path(unit.name or path.name)
    reader = next((each for each in recipe.readers if each.takes(name)), None)
    if reader is None:
        raise Unreadable("no_reader", f"no reader takes '{name.suffix or name}' files")
    size = path.stat().st_size
    if size > recipe.max_bytes and not reader.streams:
        raise Unreadable("too_large", f"{size} > {recipe.max_bytes} bytes")
    return reader


def _document(
    recipe: IngestRecipe, unit: Unit, uri: str, kind: str, parsed: Parsed, removed: Counter[str]
) -> Document:
    """One document, cleaned; raises _Refused with the reason to leave it out."""
    title = _encodable(parsed.title) or Path(unit.uri).stem
    fields, unfit = metadata.of_document(recipe.metadata, uri, parsed.meta)
    removed["metadata.unfit"] += unfit
    about = {**fields, "title": title, "path": uri}
    done = cleaned(recipe.cleaners, _encodable(parsed.text), about, removed)
    if done.reason is not None:
        raise _Refused(done.reason, done.detail)
    if not done.text.strip():
        raise _Refused("empty", "no text is left after cleaning")
    own = {"reader": kind, "headed": parsed.headed, "paged": parsed.paged}
    named = {name: value for name, value in done.meta.items() if name not in ("title", "path")}
    return {
        "id": row_id(uri, done.text),
        "text": done.text,
        "title": str(done.meta["title"]),
        "uri": uri,
        "source": {"uri": uri, "sha256": unit.sha256, **unit.meta},
        "meta": {**named, **own},
    }


def _encodable(text: str) -> str:
    """Half surrogates, which PDFs and YAML escapes can hold, cannot be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
