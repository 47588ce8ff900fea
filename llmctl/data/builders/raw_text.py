"""Cleaned text as it is, for continual pre-training: packed document by document, no model."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.records import Text, row_id
from llmctl.schema.parts import ModelRef

ENDS = (re.compile(r"\n\s*\n"), re.compile(r"(?<=[.!?])\s"), re.compile(r"\s"))
"""Where a text may be cut, the best first: paragraphs, sentences, words."""


class RawTextBuilder(Builder):
    """Each row is a span of one document, as many whole paragraphs as fit.

    A paragraph that is longer by itself is cut at the end of a sentence, or else of a word. The
    rows of a document, joined, are the document without the white space at the cuts.
    """

    works_on: ClassVar[Literal["documents", "chunks"]] = "documents"
    form: ClassVar[str] = "texts"

    max_chars: int = Field(8000, ge=50, description="Longest row, in characters.")
    max_tokens: int | None = Field(
        None, ge=16, description="Longest row, in tokens of `tokenizer`; `max_chars` holds too."
    )
    tokenizer: ModelRef | None = Field(None, description="The model whose tokens are counted.")
    min_chars: int = Field(20, ge=1, description="Shorter rows are dropped as `too_short`.")

    @model_validator(mode="after")
    def _a_tokenizer_for_tokens(self) -> Self:
        if (self.max_tokens is None) != (self.tokenizer is None):
            raise ValueError("max_tokens and tokenizer belong together: give both or none")
        return self

    def model_inputs(self) -> dict[str, Path | str]:
        """The tokenizer's model."""
        return {"tokenizer": self.tokenizer} if self.tokenizer else {}

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        fits = self.fits()
        for document in material.documents:
            text = document["text"]
            for start, end in spans(text, fits):
                if end - start < self.min_chars:
                    detail = f"{end - start} < {self.min_chars} characters"
                    yield Dropped(f"{document['id']}:{start}", "too_short", detail)
                    continue
                place = {"document": document["id"], "uri": document["uri"],
                         "start": start, "end": end}  # fmt: skip
                piece = text[start:end]
                row: Text = {
                    "id": row_id(document["id"], str(start), piece),
                    "text": piece,
                    "source": place,
                    "meta": {"builder": self.kind, "title": document.get("title", "")},
                }
                yield row

    def fits(self) -> Callable[[str], bool]:
        """Whether a piece is short enough."""
        if self.tokenizer is None or self.max_tokens is None:
            return lambda piece: len(piece) <= self.max_chars
        from llmctl.rag.tokens import tokenizer_of

        tokenizer, most = tokenizer_of(self.tokenizer), self.max_tokens

        def fits(piece: str) -> bool:
            if len(piece) > self.max_chars:
                return False
            return len(tokenizer.encode(piece, add_special_tokens=False).ids) <= most

        return fits


def spans(text: str, fits: Callable[[str], bool]) -> Iterator[tuple[int, int]]:
    """(start, end) of pieces that fit, in order, without the white space around them."""
    at, end = 0, len(text.rstrip())
    while at < end:
        at += len(text[at:end]) - len(text[at:end].lstrip())
        stop = longest(text, at, end, fits)
        yield at, at + len(text[at:stop].rstrip())
        at = stop


def longest(text: str, at: int, end: int, fits: Callable[[str], bool]) -> int:
    """Where the longest piece that begins at `at` and fits ends, cut at the best place there is.

    Found by halving, as a longer piece has no fewer tokens (but for a merge at the cut).
    """
    if fits(text[at:end]):
        return end
    low, high = at + 1, end  # a piece of one character always goes through
    while low < high - 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[at:middle]) else (low, middle)
    for pattern in ENDS:
        cuts = [each.start() for each in pattern.finditer(text, at, low + 1)]
        good = [cut for cut in cuts if at < cut <= low and fits(text[at:cut])]
        if good:
            return good[-1]
    return low
