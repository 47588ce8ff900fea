"""The item's own words, wherever they stand in a row: n-grams that both have."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from llmctl import ui
from llmctl.data import kernels
from llmctl.data.dedupers.base import Rows
from llmctl.data.detectors.base import Action, Detector, Hits, bulk
from llmctl.data.folding import encoded
from llmctl.data.kernels import SET_SHIFT, Buffer, Floats, Ids, Shape, Words
from llmctl.data.texts import picked

AT_ONCE = 2000
"""Rows whose n-grams are held in memory together: their numbers fit beside 53 bits of hash."""
SHORTEST = {"words": 4, "characters": 20}
FEW_WORDS = 12
SIEVE = 1 << 24
"""Places of the table that most n-grams of a row fail at once, without a search."""
RARE, LEADS = 8, 3
"""Sampled texts that an n-gram may stand in to lead to its items; of each item, the rarest do."""
SAMPLED = 5000
"""Rows that tell how rare words and n-grams are."""
SPREAD = 2
"""How many times longer than the item the part of a row may be in which its words are counted."""
ROW = np.uint64(53)


class _Index:
    """The n-grams of the items that are searched with one n, and where each stands."""

    def __init__(
        self,
        items: Buffer,
        chosen: Ids,
        form: Shape,
        weight: Floats,
        begin: Ids,
        seen: Callable[[Words], Ids],
    ) -> None:
        """`weight` of the words of all items, those of item i from `begin[i]` on.

        `seen` tells in how many sampled rows each n-gram stands.
        """
        parts = [items.data[items.offsets[i] : items.offsets[i + 1]] for i in chosen.tolist()]
        own = Buffer.of(part[:-1].tobytes() for part in parts)
        values, pointer, _ = kernels.shingles(own.data, own.offsets, form)
        self.n = form.n
        self.grams = values >> SET_SHIFT
        self.first, self.size = np.zeros(len(items), np.int64), np.zeros(len(items), np.int64)
        self.first[chosen], self.size[chosen] = pointer[:-1], np.diff(pointer)
        self.sums = np.concatenate([np.zeros(1), np.cumsum(weight)])
        self.begin = begin
        owner = np.repeat(chosen, np.diff(pointer))
        _, group, counts = np.unique(self.grams, return_inverse=True, return_counts=True)
        common = counts[group] + seen(self.grams)
        place = np.empty(len(common), np.int64)  # among the item's n-grams, the rarest first
        order = np.lexsort((common, owner))
        place[order] = np.arange(len(order)) - np.repeat(pointer[:-1], self.size[chosen])
        leads = np.flatnonzero((common <= RARE) | (place < LEADS))
        leads = leads[np.argsort(self.grams[leads], kind="stable")]
        self.leads, self.owner = self.grams[leads], owner[leads]
        self.sieve = np.zeros(SIEVE, bool)
        self.sieve[(self.leads % np.uint64(SIEVE)).astype(np.int64)] = True

    def hits(self, grams: Words, begin: Ids, least: Floats) -> tuple[Ids, Ids, Floats]:
        """(row, item, covered share) of the pairs that cover at least `least` of the item."""
        maybe = np.flatnonzero(self.sieve[(grams % np.uint64(SIEVE)).astype(np.int64)])
        left = np.searchsorted(self.leads, grams[maybe], "left")
        count = np.searchsorted(self.leads, grams[maybe], "right") - left
        maybe, left, count = (each[count > 0] for each in (maybe, left, count))
        row = np.repeat(np.searchsorted(begin, maybe, "right") - 1, count)
        items = np.int64(len(self.size))
        pairs = np.unique(row * items + self.owner[_spread(left, count)])
        row, item = pairs // items, pairs % items
        share = self._share(grams, begin, row, item)
        enough = share >= least[item] - 1e-9
        row, item, share = row[enough], item[enough], share[enough]
        long = np.diff(begin)[row] > self.size[item] * SPREAD
        for i in np.flatnonzero(long).tolist():
            share[i] = self._in_one_place(grams[begin[row[i]] : begin[row[i] + 1]], int(item[i]))
        enough = share >= least[item] - 1e-9
        return row[enough], item[enough], np.minimum(share[enough], 1.0)

    def _in_one_place(self, mine: Words, item: int) -> float:
        """The share that the densest part of a long row covers, SPREAD times the item long."""
        theirs = self.grams[self.first[item] : self.first[item] + self.size[item]]
        at = np.flatnonzero(np.isin(mine, theirs))
        last = np.searchsorted(at, at + SPREAD * (len(theirs) + self.n), "right")
        best = int((last - np.arange(len(at))).argmax())
        inside = np.flatnonzero(np.isin(theirs, mine[at[best : last[best]]]))
        step = np.minimum(np.append(np.diff(inside), self.n), self.n)
        start = self.begin[item] + inside
        covered = (self.sums[start + step] - self.sums[start]).sum()
        return float(covered / (self.sums[self.begin[item + 1]] - self.sums[self.begin[item]]))

    def _share(self, grams: Words, begin: Ids, row: Ids, item: Ids) -> Floats:
        """The part of each item's weight that stands in n-grams which the row has, too."""
        rows = np.unique(row)
        mine = _spread(begin[rows], np.diff(begin)[rows])
        tag = np.repeat(rows.astype(np.uint64) << ROW, np.diff(begin)[rows])
        has = np.sort(tag | grams[mine])
        count = self.size[item]
        place = _spread(self.first[item], count)
        asked = np.repeat(row.astype(np.uint64) << ROW, count) | self.grams[place]
        found = np.append(has, np.uint64(2**64 - 1))[np.searchsorted(has, asked)] == asked
        pair = np.repeat(np.arange(len(row)), count)[found]
        at = (place - np.repeat(self.first[item], count))[found]
        # a word counts once however many of its n-grams are found
        step = np.full(len(at), self.n)
        step[:-1] = np.where(np.diff(pair) == 0, np.minimum(np.diff(at), self.n), self.n)
        start = self.begin[item[pair]] + at
        covered = np.bincount(pair, self.sums[start + step] - self.sums[start], len(row))
        share: Floats = covered / (self.sums[self.begin[item + 1]] - self.sums[self.begin[item]])
        return share


def _spread(first: Ids, count: Ids) -> Ids:
    """first[i], first[i] + 1, ..., count[i] numbers for each i."""
    ends = np.cumsum(count)
    places: Ids = np.repeat(first - (ends - count), count)
    places += np.arange(len(places))
    return places


def _whole(words: Ids) -> Ids:
    """The n that items shorter than an n-gram are searched with: few values, few passes."""
    return np.where(words <= 8, words, words - words % 8)


class OverlapDetector(Detector):
    """Share of a benchmark item's words that stand in n-grams which a row contains, too.

    The default is the rule of Tülu 3 (Lambert et al. 2024): 8-grams and half of the item. GPT-3's
    (Brown et al. 2020) is any 13-gram: `ngram: 13, coverage: 0.001`. `weighted` lets a word count
    by its rarity (inverse document frequency in the rows and items), so that short n-grams find
    edited items and common phrases do not. Words count only where they stand together, in a part
    of the row that is at most twice as long as the item.
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
    shortest: int | None = Field(
        None,
        ge=1,
        description="Items of fewer words (or characters) are not searched: they occur everywhere. "
        "null is 4 words or 20 characters.",
    )
    weighted: bool = Field(False, description="Whether rare words count more than common ones.")
    strict: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Share that items of fewer than 12 words need, instead of `coverage`.",
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
        weighted = "weighted " if self.weighted else ""
        return f"{weighted}{kind}{self.ngram}-gram coverage >= {self.coverage:g}"

    def shape(self, n: int) -> Shape:
        """The n-grams as the kernels take them."""
        characters = self.unit == "characters"
        return kernels.shape(n, characters=characters, symbols=self.symbols)

    def find(self, items: Sequence[str], rows: Rows, ids: Ids) -> Hits:
        """Look up every n-gram of the rows among those of the items."""
        table = Buffer.of(encoded(text, case=True) for text in items)
        values, begin, words = kernels.shingles(table.data, table.offsets, self.shape(1))
        sizes = np.minimum(_whole(words), self.ngram)
        searched = words >= (self.shortest or SHORTEST[self.unit])
        chosen = picked(rows.texts, sampled(rows.texts, ids))
        sample = Buffer.of(encoded(text, case=True) for text in chosen)
        weight = np.ones(len(values))
        if self.weighted:
            word, seen = values >> SET_SHIFT, np.ones(len(values))
            for texts in (sample, table):
                seen += _seen(texts, self.shape(1), rows)(word)
            weight = np.log((len(sample) + len(table) + 1) / seen) + 1e-6
        indexes = [
            _Index(
                table,
                np.flatnonzero((sizes == n) & searched),
                self.shape(n),
                weight,
                begin,
                _seen(sample, self.shape(n), rows),
            )
            for n in np.unique(sizes[searched]).tolist()
        ]
        sure = np.full(len(words), self.coverage)
        sure[words < FEW_WORDS] = self.strict or self.coverage
        sure[words < self.ngram] = 1.0  # shorter than an n-gram: it has to be there as a whole
        least = np.minimum(sure, self.flag) if self.flag is not None else sure
        least[words < self.ngram] = 1.0
        found: tuple[list[Ids], list[Ids], list[Floats]] = ([], [], [])
        with ui.progress("decontaminate", len(ids)) as advance:
            for at in range(0, len(ids), AT_ONCE):
                part = ids[at : at + AT_ONCE]
                buffer = Buffer.of(encoded(text, case=True) for text in picked(rows.texts, part))
                for index in indexes:
                    grams = kernels.grams(buffer, self.shape(index.n), rows.kernel, rows.threads)
                    row, item, share = index.hits(*grams, least)
                    found[0].append(part[row])
                    found[1].append(item)
                    found[2].append(share)
                advance(len(part))
        row, item, score = bulk(*found)
        drop = (score >= sure[item] - 1e-9) & (self.action == "drop")
        return Hits(row, item, score, drop, skipped=int((~searched).sum()))


def sampled(texts: Sequence[str], ids: Ids) -> Ids:
    """About SAMPLED different texts, the same ones in whatever order the rows come."""
    if len(ids) <= SAMPLED:
        return ids
    sums = (zlib.crc32(text.encode("utf-8", "surrogatepass")) for text in picked(texts, ids))
    _, first = np.unique(np.fromiter(sums, np.uint32, len(ids)), return_index=True)
    return ids[first[:SAMPLED]]


def _seen(texts: Buffer, form: Shape, rows: Rows) -> Callable[[Words], Ids]:
    """In how many of the texts each of some n-grams stands."""
    every = np.arange(len(texts))
    flat, _ = kernels.shingle_sets(texts, form, every, rows.kernel, rows.threads)
    flat = np.sort(flat)

    def count(grams: Words) -> Ids:
        found: Ids = np.searchsorted(flat, grams, "right") - np.searchsorted(flat, grams, "left")
        return found

    return count
