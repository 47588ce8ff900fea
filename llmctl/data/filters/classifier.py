"""Rows that a trained classifier finds too poor, or of the wrong class."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data import classifier
from llmctl.data.filters.base import Filter, Verdict, text_of
from llmctl.schema.parts import ModelRef


class ClassifierFilter(Filter):
    """The score, or the probability of `label`, is at least `min`.

    One row at a time; for many rows the judge `classifier`, which takes them together, is faster.
    """

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "train"}

    model: ModelRef = Field(description="Artifact of sft with task classifier.")
    label: str | None = Field(
        None, description="Label whose probability counts; none for a head with a score."
    )
    min: float = Field(0.5, description="Smallest score or probability.")

    def model_inputs(self) -> dict[str, Path | str]:
        """The classifier."""
        return {"model": self.model}

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""
        with classifier.opened(self.model) as live:
            output = live.head.index(self.label)

        def judge(row: Mapping[str, Any]) -> Verdict:
            value = float(live([text_of(row, live.head.within)])[0, output])
            return None if value >= self.min else f"{value:.3g} < {self.min:g}"

        return judge
