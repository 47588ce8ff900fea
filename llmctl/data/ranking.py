"""Candidates in the order of a judge: by scores, or each against each, asked in both orders."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.evaluation import judging
from llmctl.judges.base import Answered, Contest, Judge, LiveJudge, beside

if TYPE_CHECKING:
    from llmctl.data.material import Material, Row


@dataclass(frozen=True)
class Ranked:
    """The answers of one row and what they got; None is an answer that was not judged."""

    row: Row
    points: list[float | None]
    judgements: list[dict[str, Any]]
    """Everything that the judge said, for the row's `meta`."""

    @property
    def measured(self) -> list[int]:
        """Numbers of the answers that were judged, the best first; ties in their own order."""
        known = [i for i, each in enumerate(self.points) if each is not None]
        return sorted(known, key=lambda i: -(self.points[i] or 0.0))

    @property
    def unmeasured(self) -> str:
        """Why an answer was not judged."""
        return next((j["reason"] for j in self.judgements if j.get("unmeasured")), "")


def ranked(judge: Judge, material: Material, rows: Sequence[Row]) -> Iterator[Ranked]:
    """Every row with the points of its answers, in the order of the rows.

    A judge that scores gives each answer its score. One that only compares sees each pair of
    answers; an answer's points are its share of wins, a tie counting half. What tells how far the
    judge can be trusted (position, length, silence) goes to `material.figures`.
    """
    method = _scores if judge.scores else _contests
    with material.asking.judge(judge) as live:
        total = sum(len(row["answers"]) for row in rows)
        if not judge.scores:
            total = sum(len(row["answers"]) * (len(row["answers"]) - 1) // 2 for row in rows)
        told: list[tuple[Any, Any]] = []
        with ui.progress(f"judge {judge.kind}", total) as advance:
            for each in method(judge, live, rows, told):
                advance(len(each.judgements), material.asking.spending.told())
                yield each
    if told:
        asked, said = zip(*told, strict=True)
        found = (
            judging.of_scores([each.answer for each in asked], said)
            if judge.scores
            else judging.of_preferences(asked, said)
        )
        numbers = {key: each for key, each in found.items() if isinstance(each, int | float)}
        name = f"judge {judge.kind}"
        same = sum(each == name or each.startswith(f"{name} ") for each in material.figures)
        material.figures[f"{name} {same + 1}" if same else name] = numbers


def _answered(row: Row, content: str) -> Answered:
    return Answered(str(row["id"]), row["prompt"], content, **beside(row))


def _scores(
    judge: Judge, live: LiveJudge, rows: Sequence[Row], told: list[tuple[Any, Any]]
) -> Iterator[Ranked]:
    items = [_answered(row, each["content"]) for row in rows for each in row["answers"]]
    both = zip(items, live.score(items), strict=True)
    for row in rows:
        points: list[float | None] = []
        judgements = []
        for number in range(len(row["answers"])):
            told.append(next(both))
            each = told[-1][1]
            points.append(each.score)
            word = {"judge": judge.kind, "answer": number, "score": each.score}
            judgements.append({**word, "reason": each.reason, "unmeasured": each.score is None})
        yield Ranked(row, points, judgements)


def _contests(
    judge: Judge, live: LiveJudge, rows: Sequence[Row], told: list[tuple[Any, Any]]
) -> Iterator[Ranked]:
    items = [
        Contest(str(row["id"]), row["prompt"], one["content"], other["content"], **beside(row))
        for row in rows
        for one, other in combinations(row["answers"], 2)
    ]
    both = zip(items, live.compare(items), strict=True)
    for row in rows:
        count = len(row["answers"])
        wins, played = [0.0] * count, [0] * count
        judgements = []
        for one, other in combinations(range(count), 2):
            told.append(next(both))
            each = told[-1][1]
            got = each.points
            word = {"judge": judge.kind, "between": [one, other], "winner": each.winner}
            more = {"consistent": each.consistent, "reason": each.reason}
            judgements.append({**word, **more, "unmeasured": got is None})
            if got is not None:
                wins[one] += got
                wins[other] += 1 - got
                played[one] += 1
                played[other] += 1
        points = [w / n if n else None for w, n in zip(wins, played, strict=True)]
        yield Ranked(row, points, judgements)
