"""The promise of a builder: rows with their source span, or a reason for what could not be made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from llmctl.data.material import Material, Row
from llmctl.plugins import Backend
from llmctl.records import Dropped

__all__ = ["Builder", "Dropped", "Material", "Row"]


class Builder(Backend):
    """A step of the recipe.

    A maker turns documents or chunks into rows, which are added to the rows so far. A builder with
    `reads` turns the rows so far into other rows, which replace them.
    """

    works_on: ClassVar[Literal["documents", "chunks"]] = "chunks"
    """What a maker works on."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Forms of rows that it takes, such as examples or pairs, for a builder that works on rows:
    those that the steps before have made, or the source's. Empty for a maker."""
    form: ClassVar[str] = "examples"
    """What it makes: examples, pairs or texts; empty when the rows keep their form."""

    @abstractmethod
    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """Rows in a fixed order; each row's `source` names document, start and end."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Field -> model reference, for the recipe's inputs."""
        return {}

    def revisions(self) -> dict[str, str]:
        """Field -> version of something that is no file, for the recipe's key."""
        return {}
