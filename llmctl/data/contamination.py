"""Benchmark items in the data: which rows are dropped or flagged, and what a benchmark is worth."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmctl import ui
from llmctl.data.benchmarks import Items, read
from llmctl.data.dedupers.base import Rows
from llmctl.data.detectors.base import Hits
from llmctl.data.entries import Entries, short

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dedup import DedupRecipe


@dataclass
class Leaks:
    """What was found: hits of each rule; `dropped` marks the entries that go."""

    dropped: NDArray[np.bool_]
    benchmarks: list[Items] = field(default_factory=list)
    hits: list[tuple[str, Hits]] = field(default_factory=list)

    def item(self, number: int) -> tuple[Items, int]:
        """The benchmark of an item and its number there."""
        for each in self.benchmarks:
            if number < len(each.texts):
                return each, number
            number -= len(each.texts)
        raise IndexError(number)

    def rows(self, entries: Entries, *, dropped: bool) -> list[dict[str, Any]]:
        """The best hit of every dropped (or only flagged) row, in the order of entries."""
        best: dict[int, tuple[bool, float, str, Hits, int]] = {}
        for rule, hits in self.hits:
            for n in range(len(hits.row)):
                i = int(hits.row[n])
                if bool(self.dropped[i]) is not dropped:
                    continue
                rank = (bool(hits.drop[n]), float(hits.score[n]))
                if i not in best or rank > best[i][:2]:
                    best[i] = (*rank, rule, hits, n)
        return [self._row(entries, i, *best[i][2:]) for i in sorted(best)]

    def _row(self, entries: Entries, i: int, rule: str, hits: Hits, n: int) -> dict[str, Any]:
        benchmark, number = self.item(int(hits.item[n]))
        shown = {
            "id": entries.ids[i],
            "reason": "contaminated" if self.dropped[i] else "flagged",
            "twin": benchmark.ids[number],
            "score": round(float(hits.score[n]), 6),
            "rule": rule,
            "line": short(entries.wheres[i]),
            "twin_line": benchmark.wheres[number],
            "benchmark": benchmark.name,
        }
        return shown | ({"verdict": hits.verdicts[n]} if n in hits.verdicts else {})

    def table(self) -> list[dict[str, Any]]:
        """Of each benchmark: its items, those found in the data, and the rows that held them."""
        table, first = [], 0
        for each in self.benchmarks:
            last = first + len(each.texts)
            found: dict[str, set[int]] = {"dropped": set(), "flagged": set()}
            held: dict[int, float] = {}
            for _, hits in self.hits:
                inside = np.flatnonzero((hits.item >= first) & (hits.item < last))
                for n in inside.tolist():
                    i, number = int(hits.row[n]), int(hits.item[n]) - first
                    found["dropped" if self.dropped[i] else "flagged"].add(i)
                    held[number] = max(held.get(number, 0.0), float(hits.score[n]))
            table.append(
                {
                    "benchmark": each.name,
                    "data": short(each.data),
                    "sha256": each.sha256,
                    "items": len(each.texts),
                    "items_found": len(held),
                    "rows_dropped": len(found["dropped"]),
                    "rows_flagged": len(found["flagged"]),
                    "found": {each.ids[k]: round(v, 6) for k, v in sorted(held.items())},
                }
            )
            first = last
        return table


def check(recipe: DedupRecipe, entries: Entries, rows: Rows, artifact: Artifact) -> Leaks:
    """Look for the benchmarks' items in all rows that may be dropped."""
    leaks = Leaks(np.zeros(len(entries), bool))
    if recipe.decontaminate is None:
        return leaks
    leaks.benchmarks = list(chain.from_iterable(map(read, recipe.decontaminate.benchmarks)))
    items = [text for each in leaks.benchmarks for text in each.texts]
    ids = np.arange(rows.fixed, len(entries))
    ui.note(f"looking for {len(items)} items of {len(leaks.benchmarks)} benchmarks")
    for rule in recipe.decontaminate.rules:
        hits = rule.find(items, rows, ids)
        leaks.hits.append((rule.rule, hits))
        leaks.dropped[hits.row[hits.drop]] = True
        if hits.skipped:
            ui.note(f"{hits.skipped} items are too short for {rule.rule} and were not looked for")
        if hits.spending is not None and hits.spending.counts:
            artifact.metrics["confirm"] = {
                **hits.spending.counts, "cost": round(hits.spending.cost, 6),
            }  # fmt: skip
            artifact.summary.append(("confirm", hits.spending.told()))
    artifact.metrics["contamination"] = [
        {k: v for k, v in each.items() if k != "found"} for each in leaks.table()
    ]
    return leaks
