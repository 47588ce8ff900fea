"""The promise of a builder: rows with their source span, or a reason for what could not be made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, ClassVar

from llmctl.plugins import Backend


@dataclass(frozen=True)
class Material:
    """What builders work on."""

    documents: list[dict[str, Any]]
    chunks: list[dict[str, Any]]
    cache: Path | None = None
    """SQLite file for the replies of engines; it survives a kill."""

    def random(self, seed: int, *parts: str) -> Random:
        """A generator of its own for each row, so that the order of rows does not matter."""
        return Random("\0".join([str(seed), *parts]))


@dataclass(frozen=True)
class Dropped:
    """Something that became no row, and why."""

    id: str
    reason: str
    detail: str = ""


@dataclass(frozen=True)
class Usage:
    """Tokens of one call of an engine."""

    prompt_tokens: int
    completion_tokens: int
    cached: bool


class Builder(Backend):
    """Makes rows of one form from documents and chunks."""

    form: ClassVar[str] = "examples"
    """`examples` or `pairs`."""

    @abstractmethod
    def build(self, material: Material, seed: int) -> Iterator[Mapping[str, Any] | Dropped | Usage]:
        """Rows in a fixed order; each row's `source` names document, start and end."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Field -> model reference, for the recipe's inputs."""
        return {}
