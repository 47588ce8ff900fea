"""What build-dataset starts from: documents, chunks and rows, in files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from llmctl import rows
from llmctl.errors import InputError
from llmctl.generation.asking import Asking
from llmctl.records import check_example, check_pair, flat, row_id

Row = Mapping[str, Any]
FORMS = ("examples", "pairs", "texts")
"""What a row can be: a conversation, a better and a worse answer, or raw text."""


@dataclass(frozen=True)
class Material:
    """What a step of build-dataset works on."""

    documents: list[dict[str, Any]] = field(default_factory=list)
    chunks: list[dict[str, Any]] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    """The rows so far: of the source, or of the builders before."""
    seed: int = 0
    asking: Asking = field(default_factory=Asking)
    """How models are asked; it counts calls, tokens and money for the whole run."""

    def random(self, *parts: str) -> Random:
        """A generator of its own for each row, so that the order of rows does not matter."""
        return Random("\0".join([str(self.seed), *parts]))


def form_of(row: Row) -> str:
    """Which of FORMS a row has."""
    if "chosen" in row:
        return "pairs"
    return "examples" if "messages" in row else "texts"


def gather(sources: Iterable[Path], seed: int, asking: Asking) -> Material:
    """Everything that the sources hold; raises InputError at what is neither of the known forms."""
    documents: list[dict[str, Any]] = []
    chunks: list[dict[str, Any]] = []
    given: list[Row] = []
    for source in sources:
        if (source / "documents.jsonl").is_file():
            found = list(rows.read(source / "documents.jsonl"))
            if not found:
                raise InputError(f"{source}: has no documents")
            documents += found
            if (source / "chunks.jsonl").is_file():
                chunks += rows.read(source / "chunks.jsonl")
            continue
        for path in files(source):
            for number, row in enumerate(rows.read(path), 1):
                kind = kind_of(row)
                if kind == "chunk":
                    chunks.append(row)
                elif kind == "document":
                    documents.append(row)
                else:
                    given.append(checked(row, path, number))
    return Material(documents, chunks, given, seed, asking)


def files(source: Path) -> list[Path]:
    """The files of rows of a source: itself, an artifact's training rows, or all of a folder's."""
    if source.is_file():
        return [source]
    try:
        return [rows.find(source)]
    except InputError:
        found = sorted(p for p in source.glob("*") if p.name.endswith((*rows.FORMATS, ".ndjson")))
        if not found:
            raise
        return found


def kind_of(row: Row) -> str:
    """`chunk` and `document` are what ingest writes; everything else is a `row`."""
    if "text" not in row or "messages" in row:
        return "row"
    if "document_id" in row:
        return "chunk"
    return "document" if "uri" in row and "title" in row else "row"


def checked(row: dict[str, Any], path: Path, number: int) -> Row:
    """A row of the source with `id` and `source`; its place in the file when it names none."""
    where = f"{path}: row {number}"
    if "chosen" in row or "rejected" in row:
        check_pair(row, where)
        text = flat([*row["prompt"], *row["chosen"], *row["rejected"]])
    elif "text" in row and "messages" not in row:
        text = row["text"]
        if not isinstance(text, str):
            raise InputError(f"{where}: `text` must be text")
    else:
        check_example(row, where)
        text = flat(row["messages"])
    place = {"uri": str(path.name), "document": f"{path.name}#{number}", "row": number}
    return {"id": row_id(text), **row, "source": row.get("source") or place}


def texts_as_documents(material: Material) -> Iterator[dict[str, Any]]:
    """Rows of raw text as documents, for builders that begin with documents."""
    for row in material.rows:
        if form_of(row) == "texts":
            place = row["source"]
            document = str(place.get("document") or row["id"])
            uri = str(place.get("uri") or document)
            yield {"title": uri, "uri": uri, "meta": {}, **row, "id": document}


def whole_chunks(documents: Iterable[Row]) -> Iterator[dict[str, Any]]:
    """Each document as one chunk, where nothing has cut it."""
    for each in documents:
        text = each["text"]
        place = {"document": each["id"], "uri": each["uri"], "start": 0, "end": len(text)}
        yield {"id": each["id"], "text": text, "document_id": each["id"], "start": 0,
               "end": len(text), "source": place, "meta": {}}  # fmt: skip
