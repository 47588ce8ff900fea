"""The plan: benchmarks first, then every method in turn, until each drop has a kept twin."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from llmctl.data import contamination, kernels
from llmctl.data.contamination import Leaks
from llmctl.data.dedupers.base import Cut, Deduper, Found, Rows, Signed
from llmctl.data.entries import Entries
from llmctl.data.twins import components
from llmctl.processes import processors

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
    kind: NDArray[np.int8]
    """Of a dropped entry, the method's place in `kinds`."""
    kinds: list[str]
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
        return self.entries.reason(int(self.twin[i])) or self.kinds[self.kind[i]]

    def reasons(self) -> Counter[str]:
        """How many rows were dropped for each reason."""
        leaked = int(self.leaks.dropped.sum())
        counts = Counter({"contaminated": leaked} if leaked else {})
        for i, n in self._alike():
            counts[self.reason(i)] += n
        return counts

    def _alike(self) -> Iterator[tuple[int, int]]:
        """A dropped row for each combination of method and held-out set, and how many there are."""
        rows = np.flatnonzero((self.twin >= 0) & ~self.leaks.dropped)
        what = self.entries.reasons(self.twin[rows]).astype(np.int64) * len(self.kinds)
        what += self.kind[rows]
        _, first, counts = np.unique(what, return_index=True, return_counts=True)
        yield from zip(rows[first].tolist(), counts.tolist(), strict=True)


def threads_of(recipe: DedupRecipe) -> int:
    """The threads to use."""
    return recipe.threads or processors()


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
        np.full(len(entries), -1, np.int8),
        [method.kind for method in recipe.methods],
        np.empty(0, np.int64),
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
        # the decisions are taken over here: what is kept of a result is what the report shows
        shown = replace(result, twin=result.twin[:0], score=result.score[:0])
        found.found.setdefault(method.kind, shown)
        found.cuts = result.cuts
        gone = result.twin >= 0
        found.twin[gone], found.score[gone] = result.twin[gone], result.score[gone]
        found.kind[gone] = found.kinds.index(method.kind)
    return settle(found, {method.kind for method in methods if method.same})


def settle(found: Verdicts, same: set[str]) -> bool:
    """Let no row point at a dropped twin; whether a row has to be compared again."""
    again = False
    twin, kind, texts = found.twin, found.kind, found.entries.texts
    dropped = np.flatnonzero(twin >= 0)
    for i in dropped[twin[twin[dropped]] >= 0].tolist():
        via = int(twin[i])
        if twin[via] < 0:
            continue
        alike = found.kinds[kind[via]] == "minhash" or texts[i] == texts[via]
        if found.kinds[kind[i]] in same and alike:  # the twin's verdict is this row's, too
            twin[i], found.score[i], kind[i] = twin[via], found.score[via], kind[via]
        else:
            twin[i], found.score[i], kind[i] = -1, 0.0, -1
            again = True
    return again
