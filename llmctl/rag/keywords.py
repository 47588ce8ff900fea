"""BM25 beside the vectors: an inverted index in memory-mapped arrays.

Counts are stored, not scores, so that a change of the collection needs no scores made again, a
filter may look at any part of it, and feedback can read the terms of a chunk. Score of a chunk d
for the query q (Robertson and Zaragoza 2009, with Lucene's idf, which is never negative):

    sum over t in q of  ln(1 + (N - n_t + 0.5) / (n_t + 0.5)) * f / (f + k1 (1 - b + b |d| / avg))

Files: `rows.*` hold what each chunk contains (id, length, terms, counts), `lists.*` the same by
term, `words.*` the vocabulary, `settings.json` how text becomes terms.
"""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.errors import InputError
from llmctl.rag.stores.base import Near
from llmctl.rag.terms import ENGLISH, Terms
from llmctl.schema.keywords import Keywords

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
BLOCK = 1 << 17
"""Postings sorted at once while the lists are written: about 8 MB of memory."""


def build(folder: Path, rows: Iterable[tuple[str, str]], settings: Keywords | None = None) -> int:
    """Index (id, text) rows into an empty folder, in one pass; returns how many there were."""
    settings = settings or Keywords()
    with _Writer(folder, settings) as writer:
        terms = terms_of(settings)
        for key, text in rows:
            writer.add(key, Counter(terms(text)))
    return writer.count


def update(
    folder: Path,
    old: Path,
    removed: Collection[str],
    rows: Callable[[], Iterable[tuple[str, str]]],
) -> int:
    """A new index from an old one: its rows without `removed`, then the (id, text) rows.

    A row whose id is already there replaces it, so `rows` is called twice, for ids and for texts.
    No text of the kept rows is read again.
    """
    before = open(old)
    gone = {*removed, *(key for key, _ in rows())}
    with _Writer(folder, before.settings) as writer:
        for row, key in enumerate(before.ids):
            if key not in gone:
                writer.add(key, before.contents(row))
        terms = terms_of(before.settings)
        for key, text in rows():
            writer.add(key, Counter(terms(text)))
    return writer.count


def open(folder: Path) -> Index:
    """The index that `build` or `update` wrote; nothing is read before it is needed."""
    try:
        about = json.loads((folder / "settings.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise InputError(f"{folder}: has no keyword index; run `llmctl ingest` again") from None
    if about["format"] != FORMAT:
        raise InputError(f"{folder}: is of another version; run `llmctl ingest` again")
    return Index(folder, about)


def terms_of(settings: Keywords) -> Terms:
    """How text becomes terms, as the settings say."""
    stop_words = ENGLISH if settings.stop_words == "english" else frozenset(settings.stop_words)
    return Terms(settings.stemmer, stop_words)


class Index:
    """An index that is open for questions; safe for several threads that only ask."""

    def __init__(self, folder: Path, about: dict[str, Any]) -> None:
        import numpy as np

        def mapped(name: str) -> Any:
            file = folder / f"{name}.npy"
            return np.load(file, mmap_mode="r", allow_pickle=False)

        self.settings = Keywords.model_validate(about["settings"])
        self.ids: list[str] = json.loads((folder / "rows.ids.json").read_text(encoding="utf-8"))
        self.average: float = about["average"]
        self._terms = terms_of(self.settings)
        self._rows: dict[str, int] | None = None
        self._lengths = np.asarray(mapped("rows.length"), dtype=np.float32)
        self._starts, self._term, self._count = map(mapped, ("rows.at", "rows.term", "rows.count"))
        self._at, self._row, self._times = map(mapped, ("lists.at", "lists.row", "lists.count"))
        self._words = _Words(folder)
        k1, b = self.settings.k1, self.settings.b
        average = self.average or 1.0
        self._norms = np.asarray(k1 * (1 - b + b * self._lengths / average), dtype=np.float32)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, key: str) -> int | None:
        """The row of a chunk's id."""
        if self._rows is None:
            self._rows = {key: row for row, key in enumerate(self.ids)}
        return self._rows.get(key)

    def contents(self, row: int) -> dict[str, int]:
        """term -> count of one row."""
        first, last = self._starts[row], self._starts[row + 1]
        pairs = zip(self._term[first:last], self._count[first:last], strict=True)
        return {self._words[int(term)]: int(count) for term, count in pairs}

    def idf(self, term: str) -> float:
        """How rare a term is; 0 for one that occurs nowhere."""
        from math import log

        number = self._words.number(term)
        if number is None:
            return 0.0
        found = int(self._at[number + 1] - self._at[number])
        return log(1 + (len(self.ids) - found + 0.5) / (found + 0.5)) if found else 0.0

    def weights(self, query: str) -> dict[str, float]:
        """term -> how often a question says it."""
        return {term: float(count) for term, count in Counter(self._terms(query)).items()}

    def scores(self, query: str | Mapping[str, float]) -> np.ndarray:
        """BM25 of every row, float32, shape (rows,); a mapping gives each term its weight."""
        import numpy as np

        weights = self.weights(query) if isinstance(query, str) else query
        found = np.zeros(len(self.ids), dtype=np.float32)
        for term, weight in weights.items():
            number = self._words.number(term)
            if number is None or not weight:
                continue
            first, last = self._at[number], self._at[number + 1]
            rows, times = self._row[first:last], self._times[first:last]
            found[rows] += np.float32(weight * self.idf(term)) * times / (times + self._norms[rows])
        return found

    def parts(self, query: str | Mapping[str, float], row: int) -> dict[str, float]:
        """term -> its share of one row's score, largest first: why a chunk was found."""
        weights = self.weights(query) if isinstance(query, str) else query
        counts, norm = self.contents(row), float(self._norms[row])
        shares = {
            term: weight * self.idf(term) * counts[term] / (counts[term] + norm)
            for term, weight in weights.items()
            if term in counts
        }
        return dict(sorted(shares.items(), key=lambda each: (-each[1], each[0])))

    def top(
        self, query: str | Mapping[str, float], k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k best rows that share a term with the query, best first; ties by id."""
        return self.best(self.scores(query), k, allowed)

    def best(
        self, scores: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k largest of the scores of all rows that are above 0; ties by id."""
        import numpy as np

        if allowed is not None:
            rows = [row for row in map(self.row, allowed) if row is not None]
            kept = np.zeros(len(scores), dtype=np.float32)
            kept[rows] = scores[rows]
            scores = kept
        above = np.flatnonzero(scores > 0)
        if len(above) > k:
            best = np.partition(scores[above], len(above) - k)[len(above) - k]
            above = above[scores[above] >= best]  # all that tie with the last one
        near = [Near(self.ids[row], round(float(scores[row]), 6)) for row in above]
        return sorted(near, key=lambda each: (-each.score, each.id))[:k]


class _Words:
    """The vocabulary, sorted as UTF-8, looked up by halving; no dictionary is built."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        def mapped(name: str) -> Any:
            return np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)

        self._bytes = memoryview(mapped("words.text"))
        self._starts, self._sorted = mapped("words.at"), mapped("words.sorted")

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, number: int) -> str:
        return self._at(number).decode()

    def _at(self, number: int) -> bytes:
        return bytes(self._bytes[self._starts[number] : self._starts[number + 1]])

    def number(self, word: str) -> int | None:
        """The number of a word; None when it is not in the vocabulary."""
        raw = word.encode()
        place = bisect_left(range(len(self)), raw, key=lambda i: self._at(self._sorted[i]))
        if place == len(self) or self._at(self._sorted[place]) != raw:
            return None
        return int(self._sorted[place])


class _Writer:
    """Appends rows to files, then turns them round by blocks.

    In memory stay the vocabulary and 12 bytes a row.
    """

    def __init__(self, folder: Path, settings: Keywords) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.settings, self.count = folder, settings, 0
        self._numbers: dict[str, int] = {}
        self._lengths, self._starts = array("i"), array("q", [0])
        self._files = [(folder / f"{name}.raw").open("wb") for name in ("term", "count")]
        self._ids = (folder / "rows.ids.json").open("w", encoding="utf-8")

    def add(self, key: str, counts: Mapping[str, int]) -> None:
        """One row."""
        numbers = self._numbers
        terms = array("i", [numbers.setdefault(term, len(numbers)) for term in counts])
        self._files[0].write(terms.tobytes())
        self._files[1].write(array("i", counts.values()).tobytes())
        self._ids.write(("," if self.count else "[") + json.dumps(key, ensure_ascii=False))
        self._lengths.append(sum(counts.values()))
        self._starts.append(self._starts[-1] + len(terms))
        self.count += 1

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, error: type[BaseException] | None, *rest: object) -> None:
        self._ids.write("]" if self.count else "[]")
        for file in (*self._files, self._ids):
            file.close()
        if error is None:
            self._finish()
        for file in self._files:
            Path(file.name).unlink(missing_ok=True)

    def _finish(self) -> None:
        import numpy as np

        def save(name: str, values: Any, kind: str) -> None:
            np.save(self.folder / f"{name}.npy", np.asarray(values, dtype=kind))

        save("rows.length", self._lengths, "<i4")
        save("rows.at", self._starts, "<i8")
        save_words(self.folder, self._numbers)
        self._turned()
        total = sum(self._lengths)
        about = {
            "format": FORMAT,
            "settings": self.settings.model_dump(mode="json"),
            "rows": self.count,
            "average": total / self.count if self.count else 0.0,
        }
        text = json.dumps(about, indent=1) + "\n"
        (self.folder / "settings.json").write_text(text, encoding="utf-8")

    def _turned(self) -> None:
        """rows.* and, sorted by term, lists.*: a counting sort that reads the rows twice."""
        import numpy as np

        total = self._starts[-1]
        made = {
            name: np.lib.format.open_memmap(
                self.folder / f"{name}.npy", mode="w+", dtype="<i4", shape=(total,)
            )
            for name in ("rows.term", "rows.count", "lists.row", "lists.count")
        }
        sizes = np.zeros(len(self._numbers) + 1, dtype=np.int64)
        for first, terms, counts in self._blocks():
            made["rows.term"][first : first + len(terms)] = terms
            made["rows.count"][first : first + len(terms)] = counts
            np.add.at(sizes, terms + 1, 1)
        at = np.cumsum(sizes)
        np.save(self.folder / "lists.at.npy", at.astype("<i8"))
        following = at[:-1].copy()
        starts = np.asarray(self._starts)
        for first, terms, counts in self._blocks():
            order = np.argsort(terms, kind="stable")
            found, begins, each = np.unique(terms[order], return_index=True, return_counts=True)
            places = np.repeat(following[found] - begins, each) + np.arange(len(terms))
            rows = np.searchsorted(starts, first + order, side="right") - 1
            made["lists.row"][places] = rows
            made["lists.count"][places] = counts[order]
            following[found] += each
        for array_ in made.values():
            array_.flush()

    def _blocks(self) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        import numpy as np

        paths = [Path(file.name) for file in self._files]
        for first in range(0, self._starts[-1], BLOCK):
            terms, counts = (
                np.fromfile(path, dtype=np.intc, count=BLOCK, offset=4 * first) for path in paths
            )
            yield first, terms, counts


def save_words(folder: Path, numbers: Mapping[str, int]) -> None:
    """The vocabulary in the order of its numbers, and the numbers in the order of the words."""
    import numpy as np

    raw = [word.encode() for word in numbers]
    starts = np.zeros(len(raw) + 1, dtype="<i8")
    np.cumsum([len(word) for word in raw], out=starts[1:])
    np.save(folder / "words.at.npy", starts)
    np.save(folder / "words.text.npy", np.frombuffer(b"".join(raw), dtype=np.uint8))
    order = sorted(range(len(raw)), key=raw.__getitem__)
    np.save(folder / "words.sorted.npy", np.asarray(order, dtype="<i4"))
