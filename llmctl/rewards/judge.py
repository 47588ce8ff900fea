"""Any judge: a reward model, a model with a rubric, a match, or a check by a program."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from llmctl.judges.base import Answered, Judge
from llmctl.rewards.base import Rate, Reward


class JudgeReward(Reward):
    """The judge's score: `reward` is a reward model, `rule` verifies by a program or a filter."""

    judge: Judge = Field(description="What scores an answer by itself.")

    @contextmanager
    def open(self, cache: Path) -> Iterator[Rate]:
        """Start the judge."""
        with self.judge.open(cache) as live:

            def rate(answers: Sequence[Answered]) -> list[float | None]:
                return [each.score for each in live.score(answers)]

            yield rate

    def model_inputs(self) -> dict[str, Path | str]:
        """Those of the judge."""
        return {f"judge.{key}": each for key, each in self.judge.model_inputs().items()}
