"""Rows as they are compared: text, name, place, and how much each is preferred."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from fnmatch import fnmatch
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from llmctl.data import lines
from llmctl.data.texts import Texts, Writer
from llmctl.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmctl.schema.dedup import Keep


class Entry(NamedTuple):
    """One row as it is compared; `reason` is what a repeat of it is called, None in the data."""

    id: str
    text: str
    where: str
    reason: str | None = None
    rank: tuple[float, float] = (0.0, 0.0)
    values: tuple[str, ...] = ()


class Entries(Sequence[Entry]):
    """Rows in an order; of each only offsets are held when the rest lies in files."""

    def __init__(
        self,
        texts: Texts,
        ids: Texts,
        wheres: Texts,
        values: dict[str, Texts],
        reasons: NDArray[np.int64],
        names: list[str],
    ) -> None:
        self.texts, self.ids, self.wheres, self.values = texts, ids, wheres, values
        self._reasons, self._names = reasons, names

    def __len__(self) -> int:
        return len(self.texts)

    @property
    def fixed(self) -> int:
        """How many rows are never dropped."""
        return int((self._reasons >= 0).sum())

    @overload
    def __getitem__(self, index: int) -> Entry: ...

    @overload
    def __getitem__(self, index: slice) -> list[Entry]: ...

    def __getitem__(self, index: int | slice) -> Entry | list[Entry]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return Entry(self.ids[index], self.texts[index], self.wheres[index], self.reason(index))

    def reason(self, index: int) -> str | None:
        """What a repeat of a row that is never dropped is called; None for the others."""
        reason = int(self._reasons[index])
        return self._names[reason] if reason >= 0 else None

    def ordered(self, order: NDArray[np.int64]) -> Entries:
        """The same rows, place i holding row order[i]."""
        texts, ids, wheres = (s.ordered(order) for s in (self.texts, self.ids, self.wheres))
        values = {kind: each.ordered(order) for kind, each in self.values.items()}
        return Entries(texts, ids, wheres, values, self._reasons[order], self._names)


def collected(
    each: Iterable[Entry], kinds: Sequence[str], folder: Path | None
) -> tuple[Entries, NDArray[np.float64]]:
    """The entries and their ranks, shape (entries, 2); texts go to files in `folder`.

    `kinds` name the methods that an entry's `values` are for.
    """
    columns = ["texts", "ids", "wheres", *(f"values-{kind}" for kind in kinds)]
    writers = [Writer(folder / name if folder else None) for name in columns]
    reasons, known, ranks = array("q"), list[str](), array("d")
    for entry in each:
        shown = (entry.text, entry.id, entry.where, *entry.values)
        for writer, text in zip(writers, shown, strict=True):
            writer.add(text.encode("utf-8", "surrogatepass"))
        if entry.reason is None:
            reasons.append(-1)
        else:
            if entry.reason not in known:
                known.append(entry.reason)
            reasons.append(known.index(entry.reason))
        ranks.extend(entry.rank)
    texts, ids, wheres, *rest = (Texts(writer.buffer()) for writer in writers)
    values = dict(zip(kinds, rest, strict=True))
    rank = np.frombuffer(ranks, np.float64).reshape(-1, 2)
    return Entries(texts, ids, wheres, values, np.frombuffer(reasons, np.int64), known), rank


def short(where: str) -> str:
    """Without the folder, so that the same rows elsewhere give the same bytes."""
    return where.rpartition("/")[2]


def preference(
    keep: Keep, row: dict[str, Any], text: str, path: Path, where: str
) -> tuple[float, float]:
    """The rank of a row: the lowest of twins stays; ties fall to the order of the rows."""
    if keep.by == "first" and not keep.prefer:
        return (0.0, 0.0)
    source = row.get("source")
    names = [str(path), path.name]
    if isinstance(source, dict):
        names += [str(source[key]) for key in ("uri", "document") if source.get(key)]
    elif source:
        names.append(str(source))
    liked = (i for i, p in enumerate(keep.prefer) if any(fnmatch(name, p) for name in names))
    first = next(liked, len(keep.prefer))
    if keep.by == "first":
        return (first, 0.0)
    if keep.by in ("longest", "shortest"):
        return (first, -len(text) if keep.by == "longest" else len(text))
    assert keep.field is not None
    value = lines.field(row, keep.field, where)
    number = _moment(value) if keep.by == "newest" else value
    if isinstance(number, bool) or not isinstance(number, int | float) or isnan(number):
        kind = "a date" if keep.by == "newest" else "a number"
        raise InputError(f"{where}: {keep.field}: {value!r} is not {kind}")
    return (first, number if keep.by == "lowest" else -number)


def _moment(value: Any) -> Any:
    """Seconds since 1970 of an ISO date or a number; UTC where no zone is named."""
    if not isinstance(value, str):
        return value
    try:
        moment = datetime.fromisoformat(value)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
