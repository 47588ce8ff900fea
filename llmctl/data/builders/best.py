"""Rejection sampling: of several answers the one that a judge likes best becomes the example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from llmctl.data.builders._judge import JudgeBuilder
from llmctl.data.builders.base import Dropped, Material, Row
from llmctl.data.ranking import ranked
from llmctl.records import answer, example


class BestBuilder(JudgeBuilder):
    """One example of each row whose best answer reaches `min_score`."""

    form: ClassVar[str] = "examples"

    min_score: float | None = Field(
        None, description="Least score of the best answer, on the judge's scale; none keeps all."
    )

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        for each in ranked(self.judge, material, material.rows):
            row, order = each.row, each.measured
            if not order:
                yield Dropped(str(row["id"]), "unmeasured", each.unmeasured[:200])
                continue
            best = row["answers"][order[0]]
            score = float(each.points[order[0]] or 0)
            if self.min_score is not None and score < self.min_score:
                detail = f"the best of {len(order)} has {score:g} < {self.min_score:g}"
                yield Dropped(str(row["id"]), "judged_low", detail)
                continue
            meta = row["meta"] | {"builder": self.kind, "ranking": each.judgements}
            meta |= {"score": score}
            meta |= {"generator": best["generator"]} if best.get("generator") else {}
            turns = [*row["prompt"], *answer(best["content"])]
            yield example(turns, row["source"], meta)
