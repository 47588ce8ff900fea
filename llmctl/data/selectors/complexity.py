"""The rows that ask or answer most, by what their text alone shows."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import Within, text_of
from llmctl.data.selectors.base import Row, Selector

SENTENCE = re.compile(r"[.!?](?:\s|$)|\n\s*(?:[-*]|\d+[.)])\s")


class ComplexitySelector(Selector):
    """Rows between two quantiles of a measure; for a model's opinion take a judge and `quality`.

    information: bytes after compression, so that repetition adds nothing. words, sentences: counts.
    """

    measure: Literal["information", "words", "sentences"] = Field(
        "information", description="What is measured."
    )
    within: Within = Field("both", description="Where.")
    low: float = Field(0.5, ge=0, lt=1, description="Share of the rows that is simpler and leaves.")
    high: float = Field(1.0, gt=0, le=1, description="Share up to which rows stay.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self

    def chosen(self, rows: Sequence[Row], seed: int) -> dict[int, str]:
        """See Selector."""
        values = [self.value(row) for row in rows]
        order = sorted(range(len(rows)), key=lambda place: (values[place], rows[place]["id"]))
        first, last = round(self.low * len(rows)), round(self.high * len(rows))
        leaving = [*order[:first], *order[last:]]
        return {place: f"{values[place]} {self.measure}" for place in leaving}

    def value(self, row: Row) -> int:
        """The measure of one row."""
        text = text_of(row, self.within)
        if self.measure == "words":
            return len(text.split())
        if self.measure == "sentences":
            return len(SENTENCE.findall(text))
        return len(zlib.compress(text.encode(errors="surrogatepass"), 6))
