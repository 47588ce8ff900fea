"""The promise of a runner: the same numbers as the kernels give here, wherever they are made."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np

from llmctl.data import kernels
from llmctl.data.kernels import Buffer, Bytes, Floats, Ids, Shape, Source
from llmctl.plugins import Backend

PAIRS = 1 << 12
"""Pairs that are compared in one part."""
T = TypeVar("T")
S = TypeVar("S")


class Runner(Backend):
    """Signs texts and compares pairs of them; the decisions are taken in this process."""

    remote: ClassVar[bool] = False
    """Whether work is sent away, so that texts have to go with it."""

    def started(self) -> AbstractContextManager[object]:
        """Keep what the work needs (a cluster) for as long as the context lasts."""
        return nullcontext()

    @abstractmethod
    def parts(self, work: Callable[[T], S], items: Iterable[T], threads: int) -> Iterator[S]:
        """work(item) of each item, in order."""


@dataclass(frozen=True)
class Sign:
    """Signs the texts of a part; a kernel goes by its name, because it cannot be sent."""

    kernel: str
    form: Shape
    a: Any
    b: Any

    def __call__(self, part: tuple[Bytes, Ids]) -> tuple[Any, Ids]:
        """Signatures, shape (texts, permutations), and the units of each text."""
        data, offsets = part
        return kernels.kernel(self.kernel).sign(data, offsets, self.form, self.a, self.b)


@dataclass(frozen=True)
class Compare:
    """Jaccard similarities of the pairs of a part."""

    kernel: str
    form: Shape

    def __call__(self, part: tuple[Bytes, Ids, Ids, Ids]) -> Floats:
        """The similarity of texts x[i] and y[i] of the part."""
        data, offsets, x, y = part
        use = kernels.kernel(self.kernel)
        buffer = Buffer(data, offsets)
        flat, pointer = kernels.shingle_sets(buffer, self.form, np.arange(len(buffer)), use)
        return kernels.jaccard(flat, pointer, x, y, use)


def pairs_of(source: Source, x: Ids, y: Ids) -> tuple[Bytes, Ids, Ids, Ids]:
    """A part for Compare: the texts x and y, each once, and which of them make the pairs."""
    ids, places = np.unique(np.concatenate([x, y]), return_inverse=True)
    return (*source.part(ids), places[: len(x)], places[len(x) :])


def compared(runner: Runner, task: Compare, source: Source, x: Ids, y: Ids, threads: int) -> Floats:
    """The similarity of the texts x[i] and y[i], with the texts sent along."""
    cuts = (slice(at, at + PAIRS) for at in range(0, len(x), PAIRS))
    made = runner.parts(task, (pairs_of(source, x[cut], y[cut]) for cut in cuts), threads)
    return np.concatenate([np.empty(0), *made])
