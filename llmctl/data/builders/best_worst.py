"""The best of several answers against the worst, as a judge ranks them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data.builders._judge import JudgeBuilder
from llmctl.data.builders.base import Dropped, Material, Row
from llmctl.data.ranking import Ranked, ranked
from llmctl.records import answer, pair

MARGIN = (
    "Pairs no further apart than this are left out: in points of the judge's scale, or in shares "
    "of won comparisons for a judge that only compares."
)


class BestWorstBuilder(JudgeBuilder):
    """One pair of each row; ties, low margins and what was not judged leave with their reason."""

    form: ClassVar[str] = "pairs"

    min_margin: float = Field(0.0, ge=0, description=MARGIN)

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        for each in ranked(self.judge, material, material.rows):
            yield self.chosen(each)

    def chosen(self, each: Ranked) -> Row | Dropped:
        """The pair of a ranked row, or why there is none."""
        row, order = each.row, each.measured
        if len(order) < 2:
            return Dropped(str(row["id"]), "unmeasured", each.unmeasured[:200])
        best, worst = order[0], order[-1]
        high, low = float(each.points[best] or 0), float(each.points[worst] or 0)
        if high == low:
            return Dropped(str(row["id"]), "tie", why_tie(each, high))
        if high - low <= self.min_margin:
            return too_near(row, high - low, self.min_margin)
        answers = row["answers"]
        meta = row["meta"] | {"builder": self.kind, "ranking": each.judgements}
        return pair(
            row["prompt"],
            answer(answers[best]["content"]),
            answer(answers[worst]["content"]),
            row["source"],
            meta | {"scores": {"chosen": high, "rejected": low}} | written_by(answers, best, worst),
        )


def too_near(row: Row, margin: float, least: float) -> Dropped:
    """Why a pair leaves whose answers are of about the same worth."""
    return Dropped(str(row["id"]), "low_margin", f"{margin:g} <= {least:g}")


def why_tie(each: Ranked, points: float) -> str:
    """What a judge that contradicted itself said, else the points of both."""
    reason = next((j["reason"] for j in each.judgements if j.get("consistent") is False), "")
    return reason or f"all answers have {points:g}"


def written_by(answers: list[dict[str, Any]], best: int, worst: int) -> dict[str, Any]:
    """Who wrote the two answers, where that is known."""
    known = {
        side: answers[number].get("generator") or answers[number].get("model")
        for side, number in (("chosen", best), ("rejected", worst))
    }
    return {"generators": known} if any(known.values()) else {}
