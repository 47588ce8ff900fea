"""A filter of build-dataset as a judge: what it keeps is right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import Field

from llmctl.data.filters.base import Filter
from llmctl.judges.base import Answered, Judge, Judgement, LiveJudge

OTHERS = ("prompt", "chosen", "rejected", "completion", "label", "answers", "votes")
"""Keys of rows that are no conversation."""


class RuleJudge(Judge):
    """1 when the filter keeps the row with this answer, else 0 with the filter's detail."""

    filter: Filter = Field(description="The rule, such as maths, program or code_tests.")

    @property
    def scale(self) -> tuple[float, float]:
        """No or yes."""
        return 0.0, 1.0

    def model_inputs(self) -> dict[str, Path | str]:
        """The filter's models and files."""
        return {f"filter.{name}": ref for name, ref in self.filter.model_inputs().items()}

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Start the filter."""
        yield Rule(self.filter)


class Rule(LiveJudge):
    """A filter that is ready."""

    def __init__(self, rule: Filter) -> None:
        super().__init__()
        self.verdict = rule.start()

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        for item in items:
            detail = self.verdict(as_row(item))
            yield Judgement(float(detail is None), detail or "")


def as_row(item: Answered) -> dict[str, object]:
    """The row that a filter sees: the conversation with this answer, and what belongs to it.

    The row's other answers are not there: a filter would look at them instead.
    """
    rest = {key: value for key, value in item.row.items() if key not in OTHERS}
    meta = dict(item.row.get("meta") or {})
    for name in ("context", "reference"):
        if (value := getattr(item, name)) is not None:
            meta[name] = value
    turns = [*item.messages, {"role": "assistant", "content": item.answer}]
    return {**rest, "id": item.id, "messages": turns, "meta": meta}
