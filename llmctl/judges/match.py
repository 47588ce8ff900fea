"""Comparison with the reference answer by words; no model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pydantic import Field

from llmctl.evaluation.tasks.generate import RULES
from llmctl.judges.base import Answered, Judge, Judgement, LiveJudge


class MatchJudge(Judge):
    """0 to 1 after case, articles and punctuation are gone, as the eval task `generate` does."""

    rule: Literal["exact", "contains", "f1"] = Field(
        "exact",
        description="exact: the same words; contains: the reference stands in the answer; f1: the "
        "overlap of words.",
    )

    @property
    def scale(self) -> tuple[float, float]:
        """A share, or yes and no."""
        return 0.0, 1.0

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Nothing to start."""
        yield Match(self.rule)


class Match(LiveJudge):
    """A rule that is ready."""

    def __init__(self, rule: str) -> None:
        super().__init__()
        self.rule = RULES[rule]

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        for item in items:
            if item.reference is None:
                yield Judgement(None, "has no reference answer to be compared with")
            else:
                yield Judgement(self.rule(item.answer, item.reference))
