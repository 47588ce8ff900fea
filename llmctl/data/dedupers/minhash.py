"""Nearly the same text: MinHash finds candidates, exact Jaccard of the shingle sets decides."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from llmctl import ui
from llmctl.data import kernels, twins
from llmctl.data.dedupers.base import Deduper, Found, Rows, Signed
from llmctl.data.kernels import Floats, Ids, Kernel, Shape, Source, narrow
from llmctl.data.runners.base import Compare, Sign, compared, pairs_of
from llmctl.data.threads import mapped
from llmctl.data.twins import Pairs

Counts = NDArray[np.int32]
Threshold = Annotated[float, Field(gt=0, le=1)]
COMPARED = 1 << 12
"""Pairs of signatures compared at a time (4 MB)."""
ROOM = 0.25
"""Space for the sets of later rounds, as a share of the first one's."""
BULK = 1 << 23
"""Bytes of text whose shingle sets a thread holds together when memory is short."""


class _Sets:
    """Shingle sets of the rows that are compared, each made once."""

    def __init__(self, source: Source, form: Shape, ids: Ids, use: Kernel, threads: int) -> None:
        self._make = (source, form, use, threads)
        self._ids = ids
        self._place: NDArray[Any] = narrow(np.full(len(self._ids), -1), len(self._ids))
        self._flat, self._pointer = np.empty(0, np.uint64), np.zeros(1, np.int64)

    def jaccard(self, x: Ids, y: Ids) -> Floats:
        """Exact similarities of pairs of rows."""
        source, form, use, threads = self._make
        wanted = np.zeros(len(self._ids), bool)
        wanted[x] = wanted[y] = True
        new = np.flatnonzero(wanted & (self._place < 0))
        flat, pointer = kernels.shingle_sets(
            source, form, self._ids[new], use, threads, ROOM, "sets"
        )
        self._place[new] = np.arange(len(new)) + len(self._pointer) - 1
        begin, end = int(self._pointer[-1]), int(self._pointer[-1] + pointer[-1])
        self._pointer = np.append(self._pointer, pointer[1:] + begin)
        if not begin:
            self._flat = flat
        else:
            if end > len(self._flat):
                self._flat = np.concatenate([self._flat[:begin], np.empty(end, np.uint64)])
            self._flat[begin:end] = flat[: pointer[-1]]
        left, right = self._place[x], self._place[y]
        return kernels.jaccard(self._flat, self._pointer, left, right, use, threads, "verify")


class MinhashDeduper(Deduper):
    """Jaccard similarity of the sets of `ngram` neighbouring words, at least `threshold`."""

    order: ClassVar[int] = 1
    measure: ClassVar[str] = "Jaccard similarity"

    threshold: Threshold = Field(
        0.8, description="Least exact Jaccard of a dropped row and its twin."
    )
    ngram: int = Field(5, ge=1, le=64, description="Words (or characters) in one shingle.")
    unit: Literal["words", "characters"] = Field("words", description="What a shingle is made of.")
    permutations: int = Field(128, ge=16, le=1024, description="Length of a signature.")
    recall: float = Field(
        0.999, gt=0, lt=1, description="Asked chance that a pair at the threshold is compared."
    )
    bands: int | None = Field(None, ge=1, le=1024, description="Bands; solved when absent.")
    rows: int | None = Field(
        None, ge=1, le=64, description="Rows of a band; solved from `recall` when absent."
    )
    ignore_case: bool = Field(True, description="Whether `Paris` and `PARIS` are the same.")
    symbols: bool = Field(
        False, description="Whether + - * / % = < > and the like count as words (maths, code)."
    )
    sweep: tuple[Threshold, ...] = Field(
        (), description="Other thresholds: the report says how many rows each would drop."
    )

    @model_validator(mode="after")
    def _banding(self) -> Self:
        bands, rows = self.banding()
        if bands < 1 or rows < 1 or bands * rows > self.permutations:
            raise ValueError(
                f"{bands} bands of {rows} rows do not fit {self.permutations} permutations"
            )
        chosen = self.bands is not None or self.rows is not None
        if not chosen and self.chance(self.lowest) < self.recall:
            raise ValueError(
                "no banding reaches this recall: raise `permutations` or the threshold"
            )
        return self

    @property
    def lowest(self) -> float:
        """The lowest threshold that pairs are compared for."""
        return min(self.threshold, *self.sweep, 1.0)

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"jaccard >= {self.threshold:g}"

    def banding(self) -> tuple[int, int]:
        """Bands and rows: the most rows (fewest false candidates) that reach the recall."""
        if self.bands is not None:
            return self.bands, self.rows or self.permutations // self.bands
        if self.rows is not None:
            return self.permutations // self.rows, self.rows
        for rows in range(min(self.permutations, 64), 1, -1):
            if 1 - (1 - self.lowest**rows) ** (self.permutations // rows) >= self.recall:
                return self.permutations // rows, rows
        return self.permutations, 1

    def chance(self, similarity: float) -> float:
        """The chance that a pair of this similarity shares a band."""
        bands, rows = self.banding()
        return float(1 - (1 - similarity**rows) ** bands)

    def shape(self) -> Shape:
        """The shingles, as the kernels take them."""
        characters = self.unit == "characters"
        return kernels.shape(
            self.ngram, characters=characters, symbols=self.symbols, case=self.ignore_case
        )

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """Sign, band, verify, drop only against kept rows; a row without a word is left alone."""
        ids = narrow(np.flatnonzero(alive), len(alive))
        form, use, threads = self.shape(), rows.kernel, rows.threads
        source = rows.folded(case=self.ignore_case)
        signature, counts = self._signatures(source, rows, ids)
        worded = narrow(np.flatnonzero(counts > 0), len(alive))
        every, ids = ids, ids if len(worded) == len(ids) else ids[worded]
        fixed = int(np.searchsorted(ids, rows.fixed))
        lowest = self.lowest
        # A pair whose signatures agree six deviations below the threshold is not worth its sets.
        floor = lowest - 6 * (lowest * (1 - lowest) / self.permutations) ** 0.5

        sets, task = _Sets(source, form, ids, use, threads), Compare(use.name, form)

        def exactly(x: Ids, y: Ids) -> Floats:
            if rows.runner.remote:
                return compared(rows.runner, task, source, ids[x], ids[y], threads)
            if rows.spill is None:
                return sets.jaccard(x, y)
            bulk = np.cumsum(source.sizes(ids[x]) + source.sizes(ids[y]))
            ends = np.searchsorted(bulk, np.arange(BULK, bulk[-1] if len(bulk) else 0, BULK))
            pairs = list(zip(np.split(ids[x], ends), np.split(ids[y], ends), strict=True))
            made = mapped(lambda pair: task(pairs_of(source, *pair)), pairs, threads, "verify")
            return np.concatenate(made)

        def measure(x: Ids, y: Ids) -> Floats:
            def agreement(at: int) -> Floats:
                cut = slice(at, at + COMPARED)
                same = signature[worded[x[cut]]] == signature[worded[y[cut]]]
                share: Floats = same.mean(axis=1)
                return share

            parts = mapped(agreement, list(range(0, len(x), COMPARED)), threads)
            score = np.concatenate([np.empty(0), *parts])
            close = np.flatnonzero(score >= floor)
            score[close] = exactly(x[close], y[close])
            score[score < floor] = 0.0
            return score

        keys, place = twins.band_keys(
            signature, worded, *self.banding(), use, threads, rows.file("bands")
        )
        scores = twins.Scores(len(ids), measure)

        def resolved(threshold: float) -> tuple[Ids, Floats, Pairs]:
            return twins.resolve(keys, place, scores, fixed, threshold, use, threads)

        local, score, pairs = resolved(self.threshold)
        sweep = {
            each: int((resolved(each)[0] >= 0).sum())
            for each in sorted({*self.sweep, self.threshold} if self.sweep else ())
        }
        twin, all_scores = np.full(len(rows.texts), -1, np.int64), np.zeros(len(rows.texts))
        gone = np.flatnonzero(local >= 0)
        twin[ids[gone]], all_scores[ids[gone]] = ids[local[gone]], score[gone]
        clusters = Pairs(ids[pairs.x], ids[pairs.y], pairs.score)
        measured = scores.pairs().score
        signed = Signed(every, signature, counts, self.settings(rows.seed))
        return Found(twin, all_scores, clusters, measured[measured > 0], sweep, signed=signed)

    def settings(self, seed: int) -> dict[str, Any]:
        """What signatures depend on."""
        names = ("ngram", "unit", "permutations", "ignore_case", "symbols")
        return {"seed": seed, **{name: getattr(self, name) for name in names}}

    def _signatures(
        self, source: Source, rows: Rows, ids: Ids
    ) -> tuple[NDArray[np.uint32], NDArray[np.int32]]:
        """Signatures and units of the texts; those that an earlier run made are taken over."""
        a, b = kernels.permutations(self.permutations, rows.seed)
        signature = kernels.allocated((len(ids), len(a)), np.uint32, rows.file("signatures"))
        counts = np.empty(len(ids), np.int32)  # a text has fewer units than bytes
        ready = np.zeros(len(ids) + 2, bool)
        for known in rows.signed:
            if known.settings == self.settings(rows.seed):
                place = np.searchsorted(ids, known.ids)  # fixed rows are never dropped
                signature[place], counts[place] = known.values, known.counts
                ready[place + 1] = True
        ready[0] = ready[-1] = True
        edges = np.flatnonzero(np.diff(ready)).reshape(-1, 2).tolist()
        with ui.progress("sign", len(ids)) as advance:
            advance(len(ids) - sum(last - first for first, last in edges))
            for first, last in edges:
                out = signature[first:last], counts[first:last]
                self._sign(source, ids[first:last], rows, (a, b), out, advance)
        return signature, counts

    def _sign(
        self,
        source: Source,
        ids: Ids,
        rows: Rows,
        permutations: tuple[Any, Any],
        out: tuple[Any, Counts],
        advance: Callable[[int], object],
    ) -> None:
        """Sign some texts, here or on the runner."""
        cuts = kernels.cuts(source.sizes(ids), len(ids))
        task = Sign(rows.kernel.name, self.shape(), *permutations)

        def placed(cut: tuple[int, int], made: tuple[Any, Ids]) -> None:
            out[0][slice(*cut)], out[1][slice(*cut)] = made
            advance(cut[1] - cut[0])

        if rows.runner.remote:
            texts = (source.part(ids[first:last]) for first, last in cuts)
            made = rows.runner.parts(task, texts, rows.threads)
            for each in zip(cuts, made, strict=True):
                placed(*each)
        else:  # the texts are gathered and the signatures put in place where they are signed
            mapped(lambda cut: placed(cut, task(source.part(ids[slice(*cut)]))), cuts, rows.threads)
