"""Found chunks -> passages to show: parents, neighbours, and only the spans that fit.

A passage is spans of one document's text, in order. Every character that is shown stands there,
so a citation of a passage can be checked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llmctl.engines.base import Session
    from llmctl.rag.embedders.base import Live
    from llmctl.rag.retrieve import Hit
    from llmctl.schema.retrieve import Retrieve

GAP = " … "
"""Between two spans of a passage that do not touch."""


@dataclass(frozen=True)
class Passage:
    """`spans` are characters of the document's text; `hits` names the chunks behind it."""

    document: str
    spans: tuple[tuple[int, int], ...]
    hit: Hit
    hits: tuple[str, ...]

    def text(self, document: str) -> str:
        """What is shown, given the whole text of the document."""
        return GAP.join(document[start:end] for start, end in self.spans)


def wider(
    hits: Sequence[Hit],
    part: Retrieve,
    chunks: Mapping[str, Any],
    parents: Mapping[str, Any],
    order: Mapping[str, Sequence[tuple[int, int]]],
) -> list[Passage]:
    """A passage for each hit; those of one document that overlap become one, at the better rank.

    `order` has for each document the spans of its chunks in their order.
    """
    found: list[Passage] = []
    for hit in hits:
        row = chunks[hit["id"]]
        span = (row["start"], row["end"])
        if part.parents and row.get("parent_id") in parents:
            parent = parents[row["parent_id"]]
            span = (parent["start"], parent["end"])
        if part.neighbours:
            spans = order[row["document_id"]]
            at = [i for i, each in enumerate(spans) if each[0] < span[1] and each[1] > span[0]]
            first, last = max(0, at[0] - part.neighbours), at[-1] + part.neighbours
            around = spans[first : last + 1]
            span = (min(span[0], around[0][0]), max(span[1], *(end for _, end in around)))
        found = _put(found, Passage(row["document_id"], (span,), hit, (hit["id"],)))
    return found


def _put(found: list[Passage], new: Passage) -> list[Passage]:
    """With the new passage, joined with every one that it overlaps."""
    kept: list[Passage] = []
    at = None
    for each in found:
        one, two = each.spans[0], new.spans[0]
        if each.document == new.document and one[0] < two[1] and two[0] < one[1]:
            span = (min(one[0], two[0]), max(one[1], two[1]))
            first = each if at is None else new
            new = replace(first, spans=(span,), hits=tuple(dict.fromkeys((*each.hits, *new.hits))))
            at = len(kept) if at is None else at
        else:
            kept.append(each)
    kept.insert(len(kept) if at is None else at, new)
    return kept


def shorter(
    question: str,
    passages: Sequence[Passage],
    part: Retrieve,
    texts: Mapping[str, str],
    embedder: Live,
    session: Session | None,
) -> list[Passage]:
    """The passages with the spans that the compressor keeps; one without any is left out."""
    assert part.compressor is not None
    shown = [texts[each.document][each.spans[0][0] : each.spans[0][1]] for each in passages]
    chosen = part.compressor.choose(question, shown, embedder, session)
    found = []
    for each, spans in zip(passages, chosen, strict=True):
        begin = each.spans[0][0]
        moved = tuple((begin + start, begin + end) for start, end in spans)
        if moved:
            found.append(replace(each, spans=moved))
    return found
