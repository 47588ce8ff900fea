"""A model that says which of two answers is better, asked in both orders."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, tee
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from llmctl.engines.base import Request
from llmctl.generation.prompts import Prompt
from llmctl.judges._asking import Asker, Said, shared, verdict_schema
from llmctl.judges._model import ModelJudge
from llmctl.judges.base import (
    SWAPPED,
    Answered,
    Contest,
    Judgement,
    LiveJudge,
    Preference,
    Winner,
)

CRITERION = (
    "Which answer is more correct, complete and helpful to somebody who asked this question."
)
VERDICTS: dict[str, Winner] = {"A": "first", "B": "second", "tie": "tie"}


class PairwiseJudge(ModelJudge):
    """An answer wins only if it wins in both orders, else it is a tie (Zheng et al. 2023, 3.4).

    An answer by itself is compared with the row's reference: 1 better, 0.5 as good, 0 worse.
    """

    block: ClassVar[str] = "compare"

    criterion: str = Field(CRITERION, min_length=3, description="What makes an answer better.")

    @property
    def scores(self) -> bool:
        """It only compares."""
        return False

    @property
    def scale(self) -> tuple[float, float]:
        """Against the reference: 0 worse, 0.5 as good, 1 better."""
        return 0.0, 1.0

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Start the engine."""
        template = self.template()
        with shared(self.engine, cache) as session:
            live = Pairwise(self, template)
            live.asker = Asker(session, live.usage)
            yield live

    def request(self, template: Prompt, item: Contest) -> Request:
        """What is asked about two answers, in the order of the contest."""
        return Request(
            template.messages(
                self.block,
                **self.shown(item),
                first=item.first,
                second=item.second,
                criterion=self.criterion,
            ),
            schema=verdict_schema("verdict", list(VERDICTS), reasoned=self.reasons),
            max_tokens=self.max_tokens,
            temperature=self.temperature,
        )


class Pairwise(LiveJudge):
    """A criterion with its running model."""

    asker: Asker

    def __init__(self, judge: PairwiseJudge, template: Prompt) -> None:
        super().__init__()
        self.judge, self.template = judge, template

    def compare(self, items: Iterable[Contest]) -> Iterator[Preference]:
        """See LiveJudge; two calls for each contest, none when the answers are equal."""
        asked, told = tee(items)
        different = (each for each in asked if each.first != each.second)
        both = chain.from_iterable((each, each.swapped()) for each in different)
        said = self.asker.each(self.judge.request(self.template, each) for each in both)
        for each in told:
            if each.first == each.second:
                yield Preference("tie", "the answers are equal")
            else:
                yield agreed(next(said), next(said))

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """Against the reference, which is not shown as such then."""
        every, told = tee(items)
        contests = (
            replace(item.against(item.reference), reference=None)
            for item in every
            if item.reference is not None
        )
        found = self.compare(contests)
        for item in told:
            if item.reference is None:
                yield Judgement(None, "has no reference answer to be compared with")
            else:
                each = next(found)
                yield Judgement(each.points, each.reason)


def agreed(straight: Said, swapped: Said) -> Preference:
    """What both orders together say; a verdict that follows the position is a tie."""
    for said in (straight, swapped):
        if said.value is None:
            return Preference(None, said.why_not)
    assert straight.value is not None and swapped.value is not None
    one = VERDICTS[straight.value["verdict"]]
    other = SWAPPED[VERDICTS[swapped.value["verdict"]]]
    reason = str(straight.value.get("reason", ""))
    if one == other:
        return Preference(one, reason, consistent=True)
    return Preference("tie", f"{one} in one order, {other} in the other", consistent=False)
