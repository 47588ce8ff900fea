"""The promise of a judge: a score for an answer, or the better of two; else why there is none."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Literal

from llmctl.plugins import Backend

Winner = Literal["first", "second", "tie"]
SWAPPED: dict[Winner, Winner] = {"first": "second", "second": "first", "tie": "tie"}
POINTS: dict[Winner, float] = {"first": 1.0, "tie": 0.5, "second": 0.0}
"""What the first answer gets."""


@dataclass(frozen=True)
class Answered:
    """One answer to judge; `messages` is the conversation up to it."""

    id: str
    messages: Sequence[Mapping[str, Any]]
    answer: str
    reference: str | None = None
    """A right answer."""
    context: str | None = None
    """The text that the answer has to come from."""
    note: str | None = None
    """What to look for in the answer to this question."""
    row: Mapping[str, Any] = field(default_factory=dict)
    """The whole row, for checks that read more of it."""

    def against(self, other: str) -> Contest:
        """This answer first, another one to the same question second."""
        return Contest(
            self.id, self.messages, self.answer, other,
            self.reference, self.context, self.note, self.row,
        )  # fmt: skip


@dataclass(frozen=True)
class Contest:
    """Two answers to the same question."""

    id: str
    messages: Sequence[Mapping[str, Any]]
    first: str
    second: str
    reference: str | None = None
    context: str | None = None
    note: str | None = None
    row: Mapping[str, Any] = field(default_factory=dict)

    def side(self, which: Literal["first", "second"]) -> Answered:
        """One of the answers by itself."""
        answer = self.first if which == "first" else self.second
        return Answered(
            self.id, self.messages, answer, self.reference, self.context, self.note, self.row
        )

    def swapped(self) -> Contest:
        """The same two answers in the other order."""
        return Contest(
            self.id, self.messages, self.second, self.first,
            self.reference, self.context, self.note, self.row,
        )  # fmt: skip


def beside(row: Mapping[str, Any]) -> dict[str, Any]:
    """What a row has for a judge to read beside the answer, in its `meta` or by itself."""
    meta = row.get("meta") or {}
    known = {name: meta.get(name, row.get(name)) for name in ("reference", "context", "note")}
    return {**{name: str(v) for name, v in known.items() if v is not None}, "row": row}


@dataclass(frozen=True)
class Judgement:
    """`score` is on the judge's scale; None means unmeasured and `reason` says why."""

    score: float | None
    reason: str = ""
    votes: tuple[float | None, ...] = ()
    """Of a jury: what each judge gave, in the order of the recipe."""


@dataclass(frozen=True)
class Preference:
    """`winner` None means unmeasured and `reason` says why."""

    winner: Winner | None
    reason: str = ""
    consistent: bool | None = None
    """Whether both orders gave the same winner; None when only one was needed."""
    margin: float | None = None
    """How much better the first answer is, for judges that compare scores."""
    votes: tuple[Winner | None, ...] = ()

    @property
    def points(self) -> float | None:
        """Of the first answer: 1 for a win, 0.5 for a tie, 0 for a loss."""
        return None if self.winner is None else POINTS[self.winner]


class LiveJudge(ABC):
    """A judge that is ready; results come in the order of the items, as soon as they are there."""

    def __init__(self) -> None:
        self.usage: Counter[str] = Counter()
        """calls, cached_calls, prompt_tokens, completion_tokens, repaired."""

    @abstractmethod
    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """One judgement for each answer."""

    def compare(self, items: Iterable[Contest]) -> Iterator[Preference]:
        """One preference for each contest; unless it is asked otherwise, the higher score wins."""
        sides = chain.from_iterable((each.side("first"), each.side("second")) for each in items)
        scores = self.score(sides)
        for first in scores:
            yield higher(first, next(scores))


def higher(first: Judgement, second: Judgement) -> Preference:
    """The preference that two scores amount to."""
    for each in (first, second):
        if each.score is None:
            return Preference(None, each.reason)
    assert first.score is not None and second.score is not None
    margin = first.score - second.score
    winner: Winner = "tie" if margin == 0 else "first" if margin > 0 else "second"
    return Preference(winner, f"{first.score:g} against {second.score:g}", margin=margin)


class Judge(Backend):
    """A way to judge; `open` makes it ready."""

    @property
    def scores(self) -> bool:
        """Whether an answer by itself, without another one or a reference, can be scored."""
        return True

    @property
    def scale(self) -> tuple[float, float] | None:
        """The lowest and the highest score; None when there are no bounds."""
        return None

    @abstractmethod
    def open(self, cache: Path | None = None) -> AbstractContextManager[LiveJudge]:
        """Make ready; replies of a model are kept in the SQLite file `cache` when it is given."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Own key -> file or model reference, for the recipe's inputs."""
        return {}

    def revisions(self) -> dict[str, str]:
        """Own key -> version of something that is no file, for the recipe's key."""
        return {}
