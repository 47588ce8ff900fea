"""A model that gives one answer a score by a rubric, its reason first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from llmctl.engines.base import Engine, Request
from llmctl.judges import _prompts
from llmctl.judges._asking import Asker, shared, verdict_schema
from llmctl.judges.base import Answered, Judge, Judgement, LiveJudge

RUBRIC = (
    "How correct, complete and helpful the answer is. The lowest score is for an answer that is "
    "wrong or beside the question, the middle for one that is partly right, the highest for one "
    "that is right, complete and says nothing needless."
)


class RubricJudge(Judge):
    """Whole scores between `low` and `high`; the form of the reply is enforced.

    A row's reference answer, source text and grading note are shown to the model when it has them.
    The reason is written before the score, so that the score can follow from it (Wei et al. 2022).
    """

    engine: Engine = Field(description="The model that judges.")
    rubric: str = Field(RUBRIC, min_length=3, description="What earns which score.")
    low: int = Field(1, ge=0, description="Lowest score.")
    high: int = Field(5, le=100, description="Highest score.")
    reasons: bool = Field(True, description="Have a reason written before the score.")
    max_tokens: int = Field(200, ge=8, description="Longest reply, in tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the likeliest token.")
    prompt: Path | None = Field(
        None, description="Your own Jinja template; without it the one that comes with llmctl."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        return self

    @property
    def scale(self) -> tuple[float, float]:
        """From `low` to `high`."""
        return self.low, self.high

    def model_inputs(self) -> dict[str, Path | str]:
        """The engine's model and the template."""
        found = {f"engine.{name}": ref for name, ref in self.engine.model_inputs().items()}
        return found | ({"prompt": self.prompt} if self.prompt else {})

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Start the engine."""
        prompt = _prompts.prompt_of(self.prompt, self.kind)
        with shared(self.engine, cache) as session:
            live = Rubric(self, prompt)
            live.asker = Asker(session, live.usage)
            yield live

    def request(self, prompt: _prompts.Prompt, item: Answered) -> Request:
        """What is asked about one answer."""
        text = prompt.render(
            rubric=self.rubric,
            low=self.low,
            high=self.high,
            reasons=self.reasons,
            question=_prompts.conversation(item.messages),
            answer=item.answer,
            reference=item.reference,
            context=item.context,
            note=item.note,
            row=item.row,
        )
        scores = list(range(self.low, self.high + 1))
        return Request(
            [{"role": "user", "content": text}],
            schema=verdict_schema("score", scores, reasoned=self.reasons),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
        )


class Rubric(LiveJudge):
    """A rubric with its running model."""

    asker: Asker

    def __init__(self, judge: RubricJudge, prompt: _prompts.Prompt) -> None:
        super().__init__()
        self.judge, self.prompt = judge, prompt

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        requests = (self.judge.request(self.prompt, item) for item in items)
        for said in self.asker.each(requests):
            if said.value is None:
                yield Judgement(None, said.why_not)
            else:
                yield Judgement(float(said.value["score"]), str(said.value.get("reason", "")))
