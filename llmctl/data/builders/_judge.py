"""What builders share that pick among candidates by the word of a judge."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from llmctl.data.builders.base import Builder
from llmctl.judges.base import Judge


class JudgeBuilder(Builder):
    """Works on candidates, which its judge ranks."""

    reads: ClassVar[tuple[str, ...]] = ("candidates",)

    judge: Judge = Field(description="Who ranks: any judge that eval has too, or a reward model.")

    def model_inputs(self) -> dict[str, Path | str]:
        """The judge's models and files."""
        return {f"judge.{name}": ref for name, ref in self.judge.model_inputs().items()}

    def revisions(self) -> dict[str, str]:
        """The versions of the judge's prompts."""
        return {f"judge.{name}": version for name, version in self.judge.revisions().items()}
