"""The best of several answers against the worst, as a judge ranks them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.ranking import Ranked, ranked
from llmctl.judges.base import Judge
from llmctl.records import answer, pair


class BestWorstBuilder(Builder):
    """One pair of each row; ties, low margins and what was not judged leave with their reason."""

    works_on: ClassVar[Literal["documents", "chunks", "rows"]] = "rows"
    reads: ClassVar[tuple[str, ...]] = ("candidates",)
    form: ClassVar[str] = "pairs"

    judge: Judge = Field(description="Who ranks: any judge that eval has too, or a reward model.")
    min_margin: float = Field(
        0.0,
        ge=0,
        description="Pairs no further apart than this are left out: in points of the judge's "
        "scale, or in shares of won comparisons for a judge that only compares.",
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The judge's models and files."""
        return {f"judge.{name}": ref for name, ref in self.judge.model_inputs().items()}

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
            return Dropped(str(row["id"]), "low_margin", f"{high - low:g} <= {self.min_margin:g}")
        answers = row["answers"]
        meta = row["meta"] | {"builder": self.kind, "ranking": each.judgements}
        return pair(
            row["prompt"],
            answer(answers[best]["content"]),
            answer(answers[worst]["content"]),
            row["source"],
            meta | {"scores": {"chosen": high, "rejected": low}} | written_by(answers, best, worst),
        )


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
