"""Sources -> documents: each file read by its reader, cleaned, and named; or left out and why."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmctl import digest
from llmctl.errors import InputError
from llmctl.rag.readers.base import Parsed, Unreadable
from llmctl.records import Document, row_id
from llmctl.schema.ingest import IngestRecipe


def read(
    recipe: IngestRecipe, metrics: dict[str, Any]
) -> tuple[list[Document], list[dict[str, Any]]]:
    """(documents, rows of what was left out); both in the order of their paths."""
    documents: list[Document] = []
    dropped: list[dict[str, Any]] = []
    removed: Counter[str] = Counter({cleaner.kind: 0 for cleaner in recipe.cleaners})
    for path, uri in files(recipe.source):
        try:
            documents.append(_document(recipe, path, uri, removed))
        except Unreadable as error:
            if recipe.on_error == "fail" and error.reason not in ("no_reader", "too_short"):
                raise InputError(
                    f"{path}: {error.reason}: {error.detail}; "
                    "repair or remove it, or set on_error: skip"
                ) from None
            row = {"id": row_id(uri), "uri": uri, "reason": error.reason, "detail": error.detail}
            dropped.append({**row, "source": {"uri": uri}, "meta": {}})
    metrics["characters_removed"] = dict(removed)
    return documents, dropped


def files(source: Path) -> Iterator[tuple[Path, str]]:
    """(file, its name relative to the source) in a fixed order; hidden files are left out."""
    if source.is_file():
        yield source, source.name
        return
    for path in digest.files_of(source):
        relative = path.relative_to(source)
        if not any(part.startswith(".") for part in relative.parts):
            yield path, relative.as_posix()


def _document(recipe: IngestRecipe, path: Path, uri: str, removed: Counter[str]) -> Document:
    """One file, read and cleaned; raises Unreadable with the reason to leave it out."""
    reader = next((each for each in recipe.readers if each.takes(path)), None)
    if reader is None:
        raise Unreadable("no_reader", f"no reader takes '{path.suffix or path.name}' files")
    size = path.stat().st_size
    if size > recipe.max_bytes:
        raise Unreadable("too_large", f"{size} > {recipe.max_bytes} bytes")
    try:
        parsed = reader.read(path)
    except OSError as error:
        raise Unreadable("unreadable", error.strerror or type(error).__name__) from None
    text = _encodable(parsed.text)
    for cleaner in recipe.cleaners:
        cleaned = cleaner.clean(text)
        removed[cleaner.kind] += cleaned.removed
        if cleaned.reason is not None:
            raise Unreadable(cleaned.reason, cleaned.detail)
        text = cleaned.text
    if not text.strip():
        raise Unreadable("empty", "no text is left after cleaning")
    return {
        "id": row_id(uri, text),
        "text": text,
        "title": _encodable(parsed.title) or Path(uri).stem,
        "uri": uri,
        "source": {"uri": uri, "sha256": digest.of_file(path)},
        "meta": _meta(parsed, reader.kind),
    }


def _meta(parsed: Parsed, kind: str) -> dict[str, Any]:
    """The reader's meta as JSON values (dates become text), with what the chunks need to know."""
    plain = _encodable(json.dumps(parsed.meta, default=str, ensure_ascii=False))
    own = {"reader": kind, "headed": parsed.headed, "paged": parsed.paged}
    return {**json.loads(plain), **own}


def _encodable(text: str) -> str:
    """Half surrogates, which PDFs and YAML escapes can hold, cannot be written as UTF-8."""
    return text.encode("utf-8", "replace").decode("utf-8")
