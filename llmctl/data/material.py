"""What build-dataset starts from: documents, chunks and rows, in files and folders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from llmctl import rows, shards, ui
from llmctl.artifact import owner_of
from llmctl.data import feedback, reading
from llmctl.data.formats.base import Format, UnfitError
from llmctl.errors import InputError
from llmctl.generation.asking import Asking
from llmctl.records import Dropped, flat, form_of, row_id

Row = Mapping[str, Any]
QUEUE = "queue.jsonl"
"""What an artifact has in place of splits when its answers have yet to be compared."""

LEFT = ("dropped.jsonl", "left_out.jsonl")
"""Files that tell of rows which left; they are no rows themselves."""


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
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Builder -> what it found out about its rows, for the manifest and the report."""

    def random(self, *parts: str) -> Random:
        """A generator of its own for each row, so that the order of rows does not matter."""
        return Random("\0".join([str(self.seed), *parts]))


@dataclass
class Gathered:
    """What was told and left out while the sources were read."""

    formats: dict[str, dict[str, Any]] = field(default_factory=dict)
    """File -> its format, and whether it was detected."""
    dropped: list[Dropped] = field(default_factory=list)


def gather(
    sources: Iterable[Path],
    seed: int,
    asking: Asking,
    format: Format | None = None,
    gathered: Gathered | None = None,
) -> Material:
    """Everything that the sources hold; raises InputError at what is of no known format.

    `format` is that of files which other tools wrote; without it the rows tell it.
    """
    told = gathered if gathered is not None else Gathered()
    documents: list[dict[str, Any]] = []
    chunks: list[dict[str, Any]] = []
    given: list[Row] = []
    for source in sources:
        database = feedback.database_of(source)
        if database is not None:
            for each in feedback.rows(database):
                if isinstance(each, Dropped):
                    told.dropped.append(each)
                else:
                    given.append(each)
            continue
        if (source / "documents.jsonl").is_file():
            found = list(rows.read(source / "documents.jsonl"))
            if not found:
                raise InputError(f"{source}: has no documents")
            documents += found
            if (source / "chunks.jsonl").is_file():
                chunks += rows.read(source / "chunks.jsonl")
            continue
        for group in files(source):
            ours = owner_of(group[0]) is not None
            for row in _read(group, None if ours else format, told):
                kind = kind_of(row)
                if kind == "chunk":
                    chunks.append(row)
                elif kind == "document":
                    documents.append(row)
                else:
                    given.append(row)
    return Material(documents, chunks, given, seed, asking)


def files(source: Path) -> list[list[Path]]:
    """The files of rows of a source: itself, its training rows, or else each of a folder's.

    Files in one list are shards of one set, in one format.
    """
    if (source / QUEUE).is_file():
        return [[source / QUEUE]]
    every = [
        each
        for each in source.glob("*")
        if each.name.endswith((*rows.FORMATS, ".ndjson")) and each.name not in LEFT
    ]
    if not every or any(shards.of_split(source, name) for name in ("train", "kept")):
        return [shards.find(source)]
    return [[each] for each in shards.together(every, source)]


def kind_of(row: Row) -> str:
    """`chunk` and `document` are what ingest writes; everything else is a `row`."""
    if "text" not in row or "messages" in row:
        return "row"
    if "document_id" in row:
        return "chunk"
    return "document" if "uri" in row and "title" in row else "row"


def _read(group: list[Path], format: Format | None, told: Gathered) -> Iterator[dict[str, Any]]:
    """The rows of a set with `id` and `source`; what nothing can be learnt from is dropped."""
    heard = reading.Reading()
    last, nth = "", 0
    for where, row in reading.read(group, format, reading=heard):
        last, nth = where, nth + 1 if where == last else 1
        name, _, line = where.rpartition("/")[2].rpartition(":")
        if isinstance(row, UnfitError):
            told.dropped.append(Dropped(f"{name}:{line}", row.reason, row.detail))
        else:
            yield placed(row, name, int(line), nth)
    name = shards.name_of(group)
    told.formats[name] = heard.dump()
    ui.note(f"{name}: {heard}")
    shards.tell_part(group)


def placed(row: dict[str, Any], name: str, line: int, nth: int = 1) -> dict[str, Any]:
    """A row with an `id` from its content and its place in the file, where it has none.

    `nth` counts the rows of one line: a JSON list may be one line.
    """
    document = f"{name}#{line}" if nth == 1 else f"{name}#{line}.{nth}"
    place = {"uri": name, "document": document, "row": line}
    given, meta = row.get("id"), row.get("meta")
    return {
        **row,
        "id": str(given) if given not in (None, "") else row_id(*content(row)),
        "source": row["source"] if isinstance(row.get("source"), Mapping) else place,
        "meta": meta if isinstance(meta, Mapping) else {} if meta is None else {"meta": meta},
    }


def content(row: Row) -> list[str]:
    """What makes a row what it is, as texts; an id is made of it."""
    form = form_of(row)
    if form == "candidates":
        return [flat(row["prompt"]), *(each["content"] for each in row["answers"])]
    if form == "texts":
        return [row["text"]]
    if form == "labelled":
        return [flat(row["prompt"]), flat(row["completion"]), str(row["label"])]
    names = ("prompt", "chosen", "rejected") if form == "pairs" else ("messages",)
    return [flat(row[name]) for name in names]


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
