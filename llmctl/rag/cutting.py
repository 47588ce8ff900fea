"""A document -> its chunks: exact spans of the text, with headings and page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from llmctl.rag.outline import outline, path_at
from llmctl.records import Chunk, Document, row_id
from llmctl.schema.ingest import IngestRecipe


def cut(recipe: IngestRecipe, document: Document) -> Iterator[Chunk]:
    """The chunks of a document: exact spans of its text, with headings and page."""
    text = document["text"]
    headings = outline(text) if document["meta"]["headed"] else []
    for start, end in recipe.chunker.split(text):
        meta: dict[str, Any] = {"title": document["title"], "headings": path_at(headings, start)}
        if document["meta"]["paged"]:
            meta["page"] = text.count("\f", 0, start) + 1
        yield {
            "id": row_id(document["uri"], str(start), str(end), text[start:end]),
            "text": text[start:end],
            "document_id": document["id"],
            "start": start,
            "end": end,
            "source": {
                "document": document["id"], "uri": document["uri"], "start": start, "end": end
            },
            "meta": meta,
        }  # fmt: skip
