"""Answers that are too short or too long, in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import SIDE, Filter, Side, Turns, Verdict, fault_of


class LengthFilter(Filter):
    """Every answer has between `min_words` and `max_words` words."""

    min_words: int = Field(3, ge=0, description="Shortest answer, in words.")
    max_words: int = Field(400, ge=1, description="Longest answer, in words.")
    side: Side = Field("both", description=SIDE)

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words {self.min_words} is above max_words {self.max_words}")
        return self

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def fault(_: Turns, answer: str) -> Verdict:
            words = len(answer.split())
            if words < self.min_words:
                return f"{words} < {self.min_words} words"
            return f"{words} > {self.max_words} words" if words > self.max_words else None

        return lambda row: fault_of(row, self.side, fault)
