"""What a recipe would ask: its builders run with a model that costs nothing.

Every prompt is rendered, and each reply is filled with words of its prompt, so that steps which
follow a reply are counted too.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llmctl.engines.base import Engine, Reply, Request
from llmctl.engines.echo import EchoSession
from llmctl.generation.asking import Asker, Asking
from llmctl.generation.spending import cost
from llmctl.judges.base import Answered, Contest, Judge, Judgement, LiveJudge, Preference

if TYPE_CHECKING:
    from llmctl.schema.build_dataset import BuildDatasetRecipe

BYTES_PER_TOKEN = 4.3
"""Of UTF-8, in English prose."""


class Counting(EchoSession):
    """Counts what is asked; answers as `echo` does, each time otherwise, and is never cut off."""

    def __init__(self, name: str) -> None:
        super().__init__("")
        self.name = name
        self.counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Reply:
        """See EchoSession."""
        asked = sum(len(each["content"].encode()) for each in request.messages)
        tokens = round(asked / BYTES_PER_TOKEN)
        with self._lock:
            self.counts.update(calls=1, prompt=tokens, most=request.max_tokens)
            number = self.counts["calls"]
        text = super().answer(request).text
        if request.schema is None:  # samples of one prompt differ, as those of a model do
            text = f"{text} {self.name}.{number}"
        return Reply(text, tokens, 0, "stop")


class Supposed(LiveJudge):
    """Prefers the first of two answers and each answer to the one before; counts what is asked."""

    def __init__(self, counts: Counter[str]) -> None:
        super().__init__()
        self.counts = counts

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        for number, item in enumerate(items):
            self.count(item.messages, item.answer, calls=1)
            yield Judgement(float(number))

    def compare(self, items: Iterable[Contest]) -> Iterator[Preference]:
        """See LiveJudge; in both orders."""
        for item in items:
            self.count(item.messages, item.first + item.second, calls=2)
            yield Preference("first", consistent=True)

    def count(self, messages: Sequence[Mapping[str, Any]], shown: str, calls: int) -> None:
        """Add what is asked about the answers shown."""
        size = sum(len(each["content"].encode()) for each in messages) + len(shown.encode())
        tokens = round(size / BYTES_PER_TOKEN)
        self.counts.update(calls=calls, prompt=calls * tokens)


class Rehearsal(Asking):
    """Asks nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[Engine, Counter[str]]] = []

    @contextmanager
    def open(self, engine: Engine) -> Iterator[Asker]:
        """Start nothing, and count what the step asks."""
        session = Counting(str(len(self.asked)))
        self.asked.append((engine, session.counts))
        yield Asker(self, engine, session)

    @contextmanager
    def judge(self, judge: Judge) -> Iterator[LiveJudge]:
        """Start nothing; what a judge without a model does costs nothing."""
        counts: Counter[str] = Counter()
        yield Supposed(counts)
        for each in members(judge):
            if engine := getattr(each, "engine", None):
                most = counts["calls"] * getattr(each, "max_tokens", 0)
                self.asked.append((engine, counts | Counter(most=most)))


def judged(recipe: BuildDatasetRecipe, rehearsal: Rehearsal, made: list[Any]) -> None:
    """Count what the recipe's judges ask about every row that is made, before filters."""
    from llmctl.data.judging import opinions

    for setting in recipe.judges:
        with rehearsal.judge(setting.judge) as live:
            list(opinions(live, made, setting.show))


def members(judge: Judge) -> Iterator[Judge]:
    """The judge, or each judge of a jury."""
    each: list[Judge] = getattr(judge, "judges", [])
    for one in each:
        yield from members(one)
    if not each:
        yield judge


def estimate(recipe: BuildDatasetRecipe) -> dict[str, str]:
    """Lines for `plan`: calls, tokens and cost of the steps, where the sources are there."""
    from llmctl import ui
    from llmctl.data.material import gather
    from llmctl.errors import LlmctlError
    from llmctl.stages.build_dataset import built

    rehearsal = Rehearsal()
    try:
        with ui.hushed():
            sources = list(recipe.sources())
            material = gather(sources, recipe.seed, rehearsal, recipe.format)
            made = built(recipe, material, [])
            judged(recipe, rehearsal, made)
    except LlmctlError as error:
        return {"calls": f"cannot be told: {error}"}
    if not rehearsal.asked:
        return {}
    total: Counter[str] = Counter()
    price = 0.0
    for engine, counts in rehearsal.asked:
        total.update(counts)
        price += cost(counts["prompt"], counts["most"], getattr(engine, "price", {}))
    who = "builders and judges" if recipe.judges else "builders"
    lines = {
        "calls": f"about {total['calls']:,} of the {who}, "
        f"without repairs, for {len(made):,} rows; what is in the cache is free",
        "tokens": f"about {total['prompt']:,} of prompts, at most {total['most']:,} of replies",
    }
    if price:
        lines["cost"] = f"at most about {price:.4g}"
    return lines
