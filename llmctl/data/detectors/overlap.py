"""The item's own words, wherever they stand in a row: n-grams that both have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from llmctl import ui
from llmctl.data import kernels
from llmctl.data.dedupers.base import Rows
from llmctl.data.detectors.base import Action, Detector, Hits, bulk
from llmctl.data.folding import encoded
from llmctl.data.kernels import SET_SHIFT, Buffer, Ids, Shape, Words
from llmctl.data.texts import picked
from llmctl.data.twins import Floats

AT_ONCE = 20_000
"""Rows whose n-grams are held in memory together."""
SIEVE = 1 << 24
"""Places of the table that most n-grams of a row fail at once, without a search."""


class _Index:
    """The n-grams of the items that are searched with one n, and where each stands."""

    def __init__(self, items: Buffer, chosen: Ids, form: Shape) -> None:
        parts = [items.data[items.offsets[i] : items.offsets[i + 1]] for i in chosen.tolist()]
        own = Buffer.of(part[:-1].tobytes() for part in parts)
        values, pointer, words = kernels.shingles(own.data, own.offsets, form)
        grams = values >> SET_SHIFT
        order = np.argsort(grams, kind="stable")
        self.grams = grams[order]
        self.item = np.repeat(chosen, np.diff(pointer))[order]
        self.at = (np.arange(len(grams)) - np.repeat(pointer[:-1], np.diff(pointer)))[order]
        self.words = np.zeros(len(items), np.int64)
        self.words[chosen] = words
        self.sieve = np.zeros(SIEVE, bool)
        self.sieve[(self.grams % np.uint64(SIEVE)).astype(np.int64)] = True

    def hits(self, grams: Words, begin: Ids, n: int) -> tuple[Ids, Ids, Floats]:
        """(row, item, share of the item's words) of every pair that shares an n-gram."""
        maybe = np.flatnonzero(self.sieve[(grams % np.uint64(SIEVE)).astype(np.int64)])
        left = np.searchsorted(self.grams, grams[maybe], "left")
        count = np.searchsorted(self.grams, grams[maybe], "right") - left
        maybe, left, count = (each[count > 0] for each in (maybe, left, count))
        ends = np.cumsum(count)
        within = np.arange(ends[-1] if len(ends) else 0) - np.repeat(ends - count, count)
        place = np.repeat(left, count) + within
        row = np.repeat(np.searchsorted(begin, maybe, "right") - 1, count)
        item, at = self.item[place], self.at[place]
        order = np.lexsort((at, item, row))
        row, item, at = row[order], item[order], at[order]
        same = (np.diff(row) == 0) & (np.diff(item) == 0)
        # a word counts once however many of its n-grams are found
        fresh = np.minimum(np.append(np.where(same, np.diff(at), n), n)[: len(at)], n)
        first = np.flatnonzero(np.append(True, ~same)[: len(at)])
        if not len(first):
            return row, item, np.empty(0)
        covered = np.add.reduceat(fresh, first)
        row, item = row[first], item[first]
        return row, item, covered / self.words[item]


class OverlapDetector(Detector):
    """Share of a benchmark item's words that stand in n-grams which a row contains, too.

    The default is the rule of Tülu 3 (Lambert et al. 2024): 8-grams and half of the item. GPT-3's
    (Brown et al. 2020) is any 13-gram: `ngram: 13, coverage: 0.001`.
    """

    action: Action = Field("drop", description="What happens to a row at `coverage`.")
    ngram: int = Field(8, ge=1, le=100, description="Words of an n-gram; a shorter item is one.")
    unit: Literal["words", "characters"] = Field("words", description="What an n-gram is made of.")
    coverage: float = Field(
        0.5, gt=0, le=1, description="Share of the item's words from which `action` is taken."
    )
    flag: float | None = Field(
        0.3, gt=0, le=1, description="Share from which a row is at least flagged; null: never."
    )
    shortest: int = Field(
        4, ge=1, description="Items of fewer words are not searched: they occur everywhere."
    )
    symbols: bool = Field(
        False, description="Whether + - * / % = < > and the like count as words (maths, code)."
    )

    @model_validator(mode="after")
    def _bounds(self) -> Self:
        if self.flag is not None and self.flag > self.coverage and "flag" in self.model_fields_set:
            raise ValueError(f"flag {self.flag:g} is above coverage {self.coverage:g}")
        return self

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        kind = "" if self.unit == "words" else "character "
        return f"{kind}{self.ngram}-gram coverage >= {self.coverage:g}"

    def shape(self, n: int) -> Shape:
        """The n-grams as the kernels take them."""
        characters = self.unit == "characters"
        return kernels.shape(n, characters=characters, symbols=self.symbols)

    def find(self, items: Sequence[str], rows: Rows, ids: Ids) -> Hits:
        """Look up every n-gram of the rows among those of the items."""
        table = Buffer.of(encoded(text, case=True) for text in items)
        words = kernels.shingles(table.data, table.offsets, self.shape(1))[2]
        sizes = np.minimum(words, self.ngram)
        searched = words >= self.shortest
        indexes = {
            n: _Index(table, np.flatnonzero((sizes == n) & searched), self.shape(n))
            for n in np.unique(sizes[searched]).tolist()
        }
        least = min(self.coverage, self.flag) if self.flag is not None else self.coverage
        found: tuple[list[Ids], list[Ids], list[Floats]] = ([], [], [])
        with ui.progress("decontaminate", len(ids)) as advance:
            for at in range(0, len(ids), AT_ONCE):
                part = ids[at : at + AT_ONCE]
                buffer = Buffer.of(encoded(text, case=True) for text in picked(rows.texts, part))
                every = np.arange(len(part))
                for n, index in indexes.items():
                    grams, begin = kernels.shingle_sets(
                        buffer, self.shape(n), every, rows.kernel, rows.threads
                    )
                    row, item, share = index.hits(grams, begin, n)
                    enough = share >= least
                    found[0].append(part[row[enough]])
                    found[1].append(item[enough])
                    found[2].append(share[enough])
                advance(len(part))
        row, item, score = bulk(*found)
        drop = (score >= self.coverage) & (self.action == "drop")
        return Hits(row, item, score, drop, skipped=int((~searched).sum()))
