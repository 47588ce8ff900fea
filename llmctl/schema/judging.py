"""How a judge is used on rows: what it is shown, what its score decides, and how it is checked."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from llmctl.judges.base import Judge
from llmctl.schema.base import Part


class Shown(Part):
    """Fields of a row that a judge sees beside question and answer, where they are there."""

    reference: str = Field("meta.reference", description="Field with a right answer.")
    context: str = Field(
        "meta.context", description="Field with the text that the answer has to come from."
    )
    note: str = Field("meta.note", description="Field with what to look for in this answer.")


class Judging(Part):
    """One judge of all rows; pairs are compared, chosen against rejected."""

    judge: Judge = Field(description="Who judges.")
    name: str | None = Field(
        None, pattern=r"^[\w-]+$", description="Name in the rows; without it the judge's kind."
    )
    min: float | None = Field(
        None,
        description="Rows below this score are dropped as judged_low; of a pair 1 means that the "
        "chosen answer wins, 0.5 a tie. Without it rows are judged and kept.",
    )
    unmeasured: Literal["keep", "drop"] = Field(
        "drop", description="What happens to a row that the judge gave no score."
    )
    max_unmeasured: float = Field(
        0.2, ge=0, le=1, description="Share of the rows without a score above which the run ends."
    )
    show: Shown = Field(
        default_factory=lambda: Shown.model_validate({}), description="What the judge is shown."
    )
    labels: Path | None = Field(
        None,
        description="Rows that people have judged, with `label` on the judge's scale (pairs: who "
        "wins, first, second or tie): the judge's agreement with them is measured.",
    )

    @property
    def title(self) -> str:
        """The name in rows and reports."""
        return self.name or self.judge.kind

    def inputs(self) -> dict[str, Path | str]:
        """Models, templates and labels."""
        found = {f"judge.{name}": ref for name, ref in self.judge.model_inputs().items()}
        return found | ({"labels": self.labels} if self.labels is not None else {})
