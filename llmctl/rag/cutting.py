"""A document -> its chunks and their parents: exact spans of the text, with headings and page."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmctl.rag.chunkers.base import About, Span
from llmctl.rag.metadata import carried
from llmctl.rag.outline import outline, path_at
from llmctl.records import Chunk, Document, Parent, row_id
from llmctl.schema.ingest import IngestRecipe

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Cut:
    """What a document is cut into; `parents` is empty unless the chunker makes some."""

    chunks: list[Chunk] = field(default_factory=list)
    parents: list[Parent] = field(default_factory=list)


def cut(
    recipe: IngestRecipe,
    document: Document,
    embed: Callable[[Sequence[str]], np.ndarray] | None = None,
) -> Cut:
    """The chunks of a document; `embed` is needed when `recipe.chunker.embeds` is true."""
    spans = _Spans(document)
    found = Cut()
    last: Span | None = None
    about = About(document["uri"], embed)
    for parent, span in recipe.chunker.families(document["text"], about):
        chunk = spans.row(span)
        if parent is not None:
            if parent != last:
                found.parents.append(spans.row(parent, "parent"))
                last = parent
            chunk["parent_id"] = found.parents[-1]["id"]
        found.chunks.append(chunk)
    return found


def embedded_text(chunk: Chunk, recipe: IngestRecipe) -> str:
    """What is embedded and indexed for a chunk: its text, with the header that the recipe asks for.

    The header is one line, `Title > Heading > Heading`; names that the chunk itself begins with
    are left out. The chunk's own text and span stay as they are.
    """
    if recipe.header == "none":
        return chunk["text"]
    meta = chunk["meta"]
    names = [meta["title"], *(meta["headings"] if recipe.header == "path" else [])]
    own = re.match(r"[ #]*(.*)", chunk["text"])
    begins = own[1].rstrip(" #") if own else ""
    names = [name for name in dict.fromkeys(names) if name and name != begins]
    return " > ".join(names) + "\n" + chunk["text"] if names else chunk["text"]


class _Spans:
    """Makes rows of spans of one document; a span costs little however long the document is."""

    def __init__(self, document: Document) -> None:
        self.document, self.text = document, document["text"]
        meta = document["meta"]
        self.headings = outline(self.text) if meta["headed"] else []
        self.pages = (
            [match.end() for match in re.finditer("\f", self.text)] if meta["paged"] else None
        )
        self.carried = carried(document)

    def row(self, span: Span, *salt: str) -> Chunk:
        start, end = span
        document, text = self.document, self.text[start:end]
        return {
            "id": row_id(*salt, document["uri"], str(start), str(end), text),
            "text": text,
            "document_id": document["id"],
            "start": start,
            "end": end,
            "source": {
                "document": document["id"], "uri": document["uri"], "start": start, "end": end
            },
            "meta": self._meta(start),
        }  # fmt: skip

    def _meta(self, start: int) -> dict[str, Any]:
        meta = {**self.carried, "headings": path_at(self.headings, start)}
        if self.pages is not None:
            meta["page"] = bisect_right(self.pages, start) + 1
        return meta
