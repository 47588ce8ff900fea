"""Several answers to each prompt, by one model or several: what a judge or a person compares."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.sampling import Sampling, asked, sampled
from llmctl.engines.base import Engine
from llmctl.records import candidates


class CandidatesBuilder(Builder):
    """`samples` answers of each engine; equal ones count once, and one alone makes no row."""

    reads: ClassVar[tuple[str, ...]] = ("examples", "candidates")
    form: ClassVar[str] = "candidates"

    engines: list[Engine] = Field(min_length=1, description="The models that answer.")
    samples: int = Field(2, ge=1, le=64, description="Answers of each model to each prompt.")
    temperature: float = Field(
        0.8, ge=0, le=2, description="How much answers differ; 0 gives the same one each time."
    )
    max_tokens: int = Field(400, ge=16, description="Longest answer, in tokens.")
    keep_given: bool = Field(
        True, description="Whether answers that the rows have already are candidates too."
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The engines' models."""
        return {
            f"engines.{number}.{name}": ref
            for number, engine in enumerate(self.engines)
            for name, ref in engine.model_inputs().items()
        }

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        samplings = [
            Sampling(engine, self.samples, self.temperature, self.max_tokens)
            for engine in self.engines
        ]
        every = sampled(material, material.rows, samplings)
        for row, said in zip(material.rows, every, strict=True):
            prompt, given = asked(row)
            answers: dict[str, dict[str, Any]] = {}
            for each in [*(given if self.keep_given else []), *said.answers]:
                answers.setdefault(each["content"].strip(), each)
            if len(answers) < 2:
                why = "; ".join(said.refused[:2]) or "all answers are the same"
                yield Dropped(str(row["id"]), "too_few_answers", why)
                continue
            meta = {**row["meta"], "builder": self.kind}
            yield candidates(prompt, list(answers.values()), row["source"], meta)
