"""The promise of a deduper: a dropped row names a kept twin that it was compared with."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from llmctl.data.kernels import Floats, Ids, Kernel
from llmctl.data.runners.base import Runner
from llmctl.data.texts import Folded, Texts
from llmctl.data.twins import Pairs
from llmctl.plugins import Backend


@dataclass(frozen=True)
class Signed:
    """Signatures of the rows `ids`, shape (ids, permutations), and the units of each."""

    ids: Ids
    values: NDArray[np.uint32]
    counts: NDArray[np.int32]
    settings: dict[str, Any]
    """What they depend on."""


@dataclass(frozen=True)
class Rows:
    """Texts in order of preference; the first `fixed` are references that are never dropped."""

    texts: Sequence[str]
    fixed: int
    kernel: Kernel
    threads: int = 1
    seed: int = 42
    spill: Path | None = None
    """Folder for what grows with the rows; None keeps it in memory."""
    values: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Kind of a method -> what it reads of each row beside the text, see Deduper.value."""
    scratch: Path | None = None
    """Folder that a killed run finds again."""
    runner: Runner = field(default_factory=lambda: Runner.of("local"))
    """Where texts are signed and pairs compared."""
    signed: tuple[Signed, ...] = ()
    """Signatures that earlier runs made of some of the fixed rows."""

    def folded(self, *, case: bool) -> Folded:
        """The texts as the kernels read them."""
        file = self.file("folded-case" if case else "folded")
        return self.held.folded(case=case, file=file, threads=self.threads)

    @cached_property
    def held(self) -> Texts:
        """The texts as bytes."""
        return self.texts if isinstance(self.texts, Texts) else Texts.of(self.texts)

    def file(self, name: str) -> Path | None:
        """Where to put something large, or None."""
        return self.spill / name if self.spill is not None else None


class Cut(NamedTuple):
    """Bytes begin..end of a row's UTF-8 text that stand in the row `twin`, too."""

    begin: int
    end: int
    twin: int


@dataclass(frozen=True)
class Found:
    """`twin[i]` is the kept row that row i repeats, -1 for a kept row; `score[i]` in 0..1."""

    twin: Ids
    score: Floats
    clusters: Pairs
    measured: Floats = field(default_factory=lambda: np.empty(0))
    sweep: dict[float, int] = field(default_factory=dict)
    cuts: dict[int, list[Cut]] = field(default_factory=dict)
    signed: Signed | None = None
    """What a later run need not compute again."""


class Deduper(Backend):
    """Finds rows that repeat a preferred one; what it drops has a kept twin in the same result."""

    order: ClassVar[int] = 0
    """Methods run by rising order: cheap and sure ones first."""
    same: ClassVar[bool] = False
    """Whether a row and its twin are the same for every later method."""
    measure: ClassVar[str] = ""
    """What `measured` holds, as the report's axis is called."""

    @property
    @abstractmethod
    def rule(self) -> str:
        """The measure and its bound, as dropped.jsonl names them."""

    def value(self, row: Mapping[str, Any], where: str) -> str | None:
        """What this method compares beside the text; None when it reads the text only."""
        return None

    @abstractmethod
    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """Compare the rows that are `alive`; the others are left as they are."""
