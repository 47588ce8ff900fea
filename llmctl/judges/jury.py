"""Several judges of the same answers, and how far they agree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import fmean, median
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl.errors import InputError
from llmctl.judges.base import (
    Answered,
    Contest,
    Judge,
    Judgement,
    LiveJudge,
    Preference,
    Winner,
)


class JuryJudge(Judge):
    """Each judge votes; too few votes leave an answer unmeasured.

    Judges of one scale keep it, judges of different scales are brought to 0 to 1. Of two answers
    that one wins which more than half of the votes name, else it is a tie.
    """

    judges: list[Judge] = Field(min_length=2, description="Who votes.")
    by: Literal["mean", "median", "majority"] = Field(
        "mean", description="How scores become one; majority is the most frequent, else the median."
    )
    quorum: int | None = Field(
        None, ge=1, description="Fewest votes that count; without it more than half of the judges."
    )

    @model_validator(mode="after")
    def _can_be_reached(self) -> Self:
        if self.quorum is not None and self.quorum > len(self.judges):
            raise ValueError(f"quorum {self.quorum} is above the {len(self.judges)} judges")
        return self

    @property
    def needed(self) -> int:
        """Fewest votes."""
        return self.quorum or len(self.judges) // 2 + 1

    @property
    def scores(self) -> bool:
        """When every judge does, and with bounds: else the jury only compares."""
        return self.scale is not None and all(each.scores for each in self.judges)

    @property
    def scale(self) -> tuple[float, float] | None:
        """The judges' own when they share one, else 0 to 1; None when one has no bounds."""
        scales = {each.scale for each in self.judges}
        if None in scales:
            return None
        return scales.pop() if len(scales) == 1 else (0.0, 1.0)

    def model_inputs(self) -> dict[str, Path | str]:
        """Those of every judge."""
        return {
            f"judges.{number}.{name}": ref
            for number, judge in enumerate(self.judges)
            for name, ref in judge.model_inputs().items()
        }

    def revisions(self) -> dict[str, str]:
        """Those of every judge."""
        return {
            f"judges.{number}.{name}": version
            for number, judge in enumerate(self.judges)
            for name, version in judge.revisions().items()
        }

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Open every judge; equal engines are started once."""
        with ExitStack() as stack:
            yield Jury(self, [stack.enter_context(each.open(cache)) for each in self.judges])


class Jury(LiveJudge):
    """Judges that are ready."""

    def __init__(self, judge: JuryJudge, members: Sequence[LiveJudge]) -> None:
        super().__init__()
        self.judge, self.members = judge, members

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        if self.judge.scale is None:
            raise InputError("jury: a judge without bounds can compare answers, not score one")
        every = list(items)
        for each in zip(*(member.score(every) for member in self.members), strict=True):
            yield self._one(each)
        self._count()

    def compare(self, items: Iterable[Contest]) -> Iterator[Preference]:
        """See LiveJudge."""
        every = list(items)
        for each in zip(*(member.compare(every) for member in self.members), strict=True):
            yield self._winner(each)
        self._count()

    def _one(self, judgements: Sequence[Judgement]) -> Judgement:
        votes = tuple(
            None if each.score is None else self._scaled(judge, each.score)
            for judge, each in zip(self.judge.judges, judgements, strict=True)
        )
        given = [vote for vote in votes if vote is not None]
        if len(given) < self.judge.needed:
            return Judgement(None, _why(judgements, self.judge.needed), votes)
        reason = " | ".join(each.reason for each in judgements if each.reason)
        return Judgement(joined(given, self.judge.by), reason, votes)

    def _scaled(self, judge: Judge, score: float) -> float:
        if judge.scale == self.judge.scale or judge.scale is None:
            return score
        low, high = judge.scale
        return (score - low) / (high - low)

    def _winner(self, preferences: Sequence[Preference]) -> Preference:
        votes = tuple(each.winner for each in preferences)
        given = [vote for vote in votes if vote is not None]
        if len(given) < self.judge.needed:
            return Preference(None, _why(preferences, self.judge.needed), votes=votes)
        [(most, count), *_] = Counter(given).most_common()
        winner: Winner = most if 2 * count > len(given) else "tie"
        asked = [each.consistent for each in preferences if each.consistent is not None]
        reason = ", ".join(f"{n} {vote}" for vote, n in Counter(given).most_common())
        return Preference(winner, reason, all(asked) if asked else None, votes=votes)

    def _count(self) -> None:
        self.usage = Counter()
        for member in self.members:
            self.usage.update(member.usage)


def joined(votes: Sequence[float], by: Literal["mean", "median", "majority"]) -> float:
    """One score of several."""
    if by == "mean":
        return fmean(votes)
    [(most, count), *others] = Counter(votes).most_common()
    if by == "majority" and not (others and others[0][1] == count):
        return most
    return float(median(votes))


def _why(each: Sequence[Judgement] | Sequence[Preference], needed: int) -> str:
    silent = [
        one.reason
        for one in each
        if (one.score if isinstance(one, Judgement) else one.winner) is None
    ]
    return f"{len(each) - len(silent)} votes, {needed} are needed: {'; '.join(silent)}"
