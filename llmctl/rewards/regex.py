"""A rule of form: whether a pattern is found in the answer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field, field_validator

from llmctl.judges.base import Answered
from llmctl.rewards.base import Rate, Reward


class RegexReward(Reward):
    """1 where the pattern is found, else 0; a negative weight rewards its absence."""

    pattern: str = Field(
        min_length=1, description="Python's regular expression; `.` and `$` know lines as there."
    )
    whole: bool = Field(False, description="The whole answer has to match, not a part of it.")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"is no regular expression: {error}") from None
        return value

    @contextmanager
    def open(self, cache: Path) -> Iterator[Rate]:
        """Nothing to start."""
        pattern = re.compile(self.pattern)
        find = pattern.fullmatch if self.whole else pattern.search

        def rate(answers: Sequence[Answered]) -> list[float | None]:
            return [float(find(each.answer.strip()) is not None) for each in answers]

        yield rate
