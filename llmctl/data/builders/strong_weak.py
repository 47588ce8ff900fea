"""Pairs from two models: the good one's answer is better, the weak one's is worse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.builders.best_worst import MARGIN, too_near
from llmctl.data.ranking import ranked
from llmctl.data.sampling import Sampling, asked, sampled
from llmctl.engines.base import Engine
from llmctl.judges.base import Judge
from llmctl.records import answer, candidates, pair


class StrongWeakBuilder(Builder):
    """With a judge, only pairs in which it too prefers the good model's answer are kept."""

    reads: ClassVar[tuple[str, ...]] = ("examples",)
    form: ClassVar[str] = "pairs"

    strong: Engine = Field(description="The good model.")
    weak: Engine = Field(description="The weak model.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the likeliest token.")
    max_tokens: int = Field(400, ge=16, description="Longest answer, in tokens.")
    judge: Judge | None = Field(
        None, description="Checks each pair, in both orders where it compares; none trusts models."
    )
    min_margin: float = Field(0.0, ge=0, description=MARGIN)

    @model_validator(mode="after")
    def _margin_of_a_judge(self) -> Self:
        if self.min_margin and self.judge is None:
            raise ValueError("min_margin is one of a judge's points; give a `judge`")
        return self

    def model_inputs(self) -> dict[str, Path | str]:
        """The models of both engines and of the judge."""
        parts: dict[str, Any] = {"strong": self.strong, "weak": self.weak, "judge": self.judge}
        return {
            f"{part}.{name}": ref
            for part, each in parts.items()
            if each is not None
            for name, ref in each.model_inputs().items()
        }

    def revisions(self) -> dict[str, str]:
        """The versions of the judge's prompts."""
        found = self.judge.revisions() if self.judge is not None else {}
        return {f"judge.{name}": version for name, version in found.items()}

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        sides = [
            sampled(
                material,
                material.rows,
                [Sampling(engine, 1, self.temperature, self.max_tokens)],
            )
            for engine in (self.strong, self.weak)
        ]
        made: list[Row] = []
        for row, good, bad in zip(material.rows, *sides, strict=True):
            both = [*good.answers, *bad.answers]
            if len(both) < 2:
                why = "; ".join([*good.refused, *bad.refused])
                yield Dropped(str(row["id"]), "too_few_answers", why)
            elif both[0]["content"] == both[1]["content"]:
                yield Dropped(str(row["id"]), "tie", "both models say the same")
            else:
                made.append(candidates(asked(row)[0], both, row["source"], row["meta"]))
        if self.judge is None:
            yield from (self.pair(row, {}) for row in made)
            return
        for each in ranked(self.judge, material, made):
            first, second = each.points
            if first is None or second is None:
                yield Dropped(str(each.row["id"]), "unmeasured", each.unmeasured[:200])
            elif first <= second:
                reason = "tie" if first == second else "weak_is_better"
                yield Dropped(str(each.row["id"]), reason, f"{first:g} against {second:g}")
            elif first - second <= self.min_margin:
                yield too_near(each.row, first - second, self.min_margin)
            else:
                scores = {"chosen": first, "rejected": second}
                yield self.pair(each.row, {"ranking": each.judgements, "scores": scores})

    def pair(self, row: Row, more: dict[str, Any]) -> Row:
        """The pair of two answers."""
        good, bad = row["answers"]
        generators = {"chosen": good["generator"], "rejected": bad["generator"]}
        return pair(
            row["prompt"],
            answer(good["content"]),
            answer(bad["content"]),
            row["source"],
            {**row["meta"], "builder": self.kind, "generators": generators, **more},
        )
