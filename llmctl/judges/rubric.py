"""A model that gives one answer a score by a rubric, its reason first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar, Self

from pydantic import Field, model_validator

from llmctl.engines.base import Request
from llmctl.generation.prompts import Prompt
from llmctl.judges._asking import Asker, shared, verdict_schema
from llmctl.judges._model import ModelJudge
from llmctl.judges.base import Answered, Judgement, LiveJudge

RUBRIC = (
    "How correct, complete and helpful the answer is. The lowest score is for an answer that is "
    "wrong or beside the question, the middle for one that is partly right, the highest for one "
    "that is right, complete and says nothing needless."
)


class RubricJudge(ModelJudge):
    """Whole scores between `low` and `high`; the form of the reply is enforced.

    A row's reference answer, source text and grading note are shown to the model when it has them.
    The reason is written before the score, so that the score can follow from it (Wei et al. 2022).
    """

    block: ClassVar[str] = "score"

    rubric: str = Field(RUBRIC, min_length=3, description="What earns which score.")
    low: int = Field(1, ge=0, description="Lowest score.")
    high: int = Field(5, le=100, description="Highest score.")

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self

    @property
    def scale(self) -> tuple[float, float]:
        """From `low` to `high`."""
        return self.low, self.high

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Start the engine."""
        template = self.template()
        with shared(self.engine, cache) as session:
            live = Rubric(self, template)
            live.asker = Asker(session, live.usage)
            yield live

    def request(self, template: Prompt, item: Answered) -> Request:
        """What is asked about one answer."""
        scores = list(range(self.low, self.high + 1))
        return Request(
            template.messages(
                self.block,
                **self.shown(item),
                answer=item.answer,
                rubric=self.rubric,
                low=self.low,
                high=self.high,
            ),
            schema=verdict_schema("score", scores, reasoned=self.reasons),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
        )


class Rubric(LiveJudge):
    """A rubric with its running model."""

    asker: Asker

    def __init__(self, judge: RubricJudge, template: Prompt) -> None:
        super().__init__()
        self.judge, self.template = judge, template

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        requests = (self.judge.request(self.template, item) for item in items)
        for said in self.asker.each(requests):
            if said.value is None:
                yield Judgement(None, said.why_not)
            else:
                yield Judgement(float(said.value["score"]), str(said.value.get("reason", "")))
