"""The promise of a quantizer: smaller files of the same model, each one measured."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmctl.plugins import Backend


@dataclass(frozen=True)
class Made:
    """One file and what its format is called."""

    type: str
    path: Path


@dataclass
class Measured:
    """What a file does on the test tokens; log-probabilities in nats."""

    perplexity: float
    agreement: float
    """Share of positions whose likeliest token is the source's."""
    kl: float
    """Mean KL(source || file) of the next-token distributions, in nats."""
    tokens: int
    tokens_per_second: float
    answer: str = ""
    extra: dict[str, Any] = field(default_factory=dict)


class Runner:
    """Loads a made file and measures it."""

    def tokenize(self, path: Path, texts: list[str]) -> list[list[int]]:
        """Token ids as the runtime of the format sees them, special tokens parsed."""
        raise NotImplementedError

    def measure(self, path: Path, windows: list[list[int]], source: Path, prompt: str) -> Measured:
        """Compare with the source's log-probabilities, `<n>.npy` and `<n>.top.npy` in `source`."""
        raise NotImplementedError


class Quantizer(Backend):
    """Turns a Hugging Face folder into smaller files."""

    @abstractmethod
    def quantize(self, folder: Path, name: str, work: Path) -> Iterator[Made]:
        """Make the files in `work`, largest first; a finished one is not made again."""

    @abstractmethod
    def runner(self) -> AbstractContextManager[Runner]:
        """What loads the made files."""

    @abstractmethod
    def wanted(self) -> list[str]:
        """Types of the files that are kept."""

    @abstractmethod
    def main(self) -> str:
        """The type that later stages get."""
