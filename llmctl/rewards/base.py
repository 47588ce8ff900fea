"""The promise of a reward: a number for each answer, or None where it cannot be told."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from pydantic import Field

from llmctl.judges.base import Answered
from llmctl.plugins import Backend

Rate = Callable[[Sequence[Answered]], list[float | None]]
"""Answers -> their rewards, in order."""


class Reward(Backend):
    """A way to rate answers; `open` makes it ready."""

    weight: float = Field(1.0, description="Factor in the sum of all rewards; may be negative.")

    @abstractmethod
    def open(self, cache: Path) -> AbstractContextManager[Rate]:
        """Make ready; what a model says may be kept in the SQLite file `cache`."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Own key -> file or model reference, for the recipe's inputs."""
        return {}
