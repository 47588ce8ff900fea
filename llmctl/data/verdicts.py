"""The plan: benchmarks first, then every method in turn, until each drop has a kept twin."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from llmctl.data import contamination, kernels
from llmctl.data.contamination import Leaks
from llmctl.data.dedupers.base import Cut, Deduper, Found, Rows, Signed
from llmctl.data.entries import Entries
from llmctl.data.twins import components

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from llmctl.artifact import Artifact
    from llmctl.schema.dedup import DedupRecipe


@dataclass
class Verdicts:
    """The decision on each entry, in order of preference: `twin` -1 is kept."""

    entries: Entries
    twin: NDArray[np.int64]
    score: NDArray[np.float64]
    kind: list[str]
    cluster: NDArray[np.int64]
    leaks: Leaks
    found: dict[str, Found] = field(default_factory=dict)
    cuts: dict[int, list[Cut]] = field(default_factory=dict)

    @property
    def gone(self) -> NDArray[np.bool_]:
        """Which entries do not stay."""
        return (self.twin >= 0) | self.leaks.dropped

    def reason(self, i: int) -> str:
        """Why a row was dropped: the kind, or what a repeat of a held-out row is called."""
        if self.leaks.dropped[i]:
            return "contaminated"
        return self.entries.reason(int(self.twin[i])) or self.kind[i]


def threads_of(recipe: DedupRecipe) -> int:
    """The threads to use."""
    return recipe.threads or len(os.sched_getaffinity(0))


def judge(
    recipe: DedupRecipe,
    entries: Entries,
    fixed: int,
    artifact: Artifact,
    spill: Path | None = None,
    signed: tuple[Signed, ...] = (),
) -> Verdicts:
    """Run the methods in one plan over entries in order of preference.

    A row whose twin is dropped by a later method is compared again, until every twin is kept. A
    twin comes before its row, so the decisions on the first rows are final and this ends.
    """
    use = kernels.kernel(recipe.kernel)
    texts = Rows(
        entries.texts,
        fixed,
        use,
        threads_of(recipe),
        recipe.seed,
        spill,
        entries.values,
        artifact.scratch,
        recipe.runner,
        signed,
    )
    leaks = contamination.check(recipe, entries, texts, artifact)
    found = Verdicts(
        entries,
        np.full(len(entries), -1, np.int64),
        np.zeros(len(entries)),
        [""] * len(entries),
        np.arange(len(entries)),
        leaks,
    )
    with recipe.runner.started():
        while run_methods(sorted(recipe.methods, key=lambda m: m.order), texts, found):
            pass
    x = np.concatenate([f.clusters.x for f in found.found.values()])
    y = np.concatenate([f.clusters.y for f in found.found.values()])
    found.cluster = components(len(entries), x, y)
    return found


def run_methods(methods: list[Deduper], texts: Rows, found: Verdicts) -> bool:
    """Run every method on the rows that stay so far; whether some have to be compared again."""
    for method in methods:
        result = method.find(texts, ~found.gone)
        found.found.setdefault(method.kind, result)
        found.cuts = result.cuts
        for i in np.flatnonzero(result.twin >= 0).tolist():
            found.twin[i], found.score[i] = result.twin[i], result.score[i]
            found.kind[i] = method.kind
    return settle(found, {method.kind for method in methods if method.same})


def settle(found: Verdicts, same: set[str]) -> bool:
    """Let no row point at a dropped twin; whether a row has to be compared again."""
    again = False
    for i in np.flatnonzero(found.twin >= 0).tolist():
        via = int(found.twin[i])
        if found.twin[via] < 0:
            continue
        alike = found.kind[via] == "minhash" or found.entries.texts[i] == found.entries.texts[via]
        if found.kind[i] in same and alike:  # the twin's verdict is this row's, too
            found.twin[i], found.score[i] = found.twin[via], found.score[via]
            found.kind[i] = found.kind[via]
        else:
            found.twin[i], found.score[i], found.kind[i] = -1, 0.0, ""
            again = True
    return again
