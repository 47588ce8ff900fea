"""Rejection sampling: of several answers the one that a judge likes best becomes the example."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.ranking import ranked
from llmctl.judges.base import Judge
from llmctl.records import answer, example


class BestBuilder(Builder):
    """One example of each row whose best answer reaches `min_score`."""

    works_on: ClassVar[Literal["documents", "chunks", "rows"]] = "rows"
    reads: ClassVar[tuple[str, ...]] = ("candidates",)
    form: ClassVar[str] = "examples"

    judge: Judge = Field(description="Who ranks: any judge that eval has too, or a reward model.")
    min_score: float | None = Field(
        None, description="Least score of the best answer, on the judge's scale; none keeps all."
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The judge's models and files."""
        return {f"judge.{name}": ref for name, ref in self.judge.model_inputs().items()}

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
