"""A length that is wanted: nothing within it, less and less beyond."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from llmctl.judges.base import Answered
from llmctl.rewards.base import Rate, Reward


class LengthReward(Reward):
    """0 between `least` and `most` words; beyond, minus the share that is missing or too much."""

    least: int = Field(0, ge=0, description="Fewest words.")
    most: int = Field(100, ge=1, description="Most words.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.least > self.most:
            raise ValueError(f"least {self.least} is more than most {self.most}")
        return self

    @contextmanager
    def open(self, cache: Path) -> Iterator[Rate]:
        """Nothing to start."""

        def rate(answers: Sequence[Answered]) -> list[float | None]:
            return [self.worth(len(each.answer.split())) for each in answers]

        yield rate

    def worth(self, words: int) -> float:
        """Of an answer of so many words; between -1 and 0."""
        if words > self.most:
            return -min((words - self.most) / self.most, 1.0)
        return -(self.least - words) / self.least if words < self.least else 0.0
