"""Rows as they are compared: text, name, place, and how much each is preferred."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatch
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import numpy as np

from llmctl.data import lines
from llmctl.data.kernels import Buffer
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


@dataclass(frozen=True)
class Batch:
    """Neighbouring rows of one file that were read together; ids are as dropped.jsonl has them."""

    path: str
    lines: NDArray[np.uint32]
    texts: Buffer
    ids: Buffer
    reason: str | None = None


class Places(Sequence[str]):
    """Where each row stands, as `file:line`."""

    def __init__(self, files: list[str], file: NDArray[Any], line: NDArray[Any]) -> None:
        self._files, self._file, self._line = files, file, line

    def __len__(self) -> int:
        return len(self._file)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return f"{self._files[self._file[index]]}:{self._line[index]}"

    def some(self, rows: NDArray[np.int64]) -> Iterator[str]:
        """Several of them."""
        for file, line in zip(self._file[rows].tolist(), self._line[rows].tolist(), strict=True):
            yield f"{self._files[file]}:{line}"

    def ordered(self, order: NDArray[np.int64]) -> Places:
        """The same places, number i being order[i]."""
        return Places(self._files, self._file[order], self._line[order])


class Entries(Sequence[Entry]):
    """Rows in an order; of each only offsets are held when the rest lies in files."""

    def __init__(
        self,
        texts: Texts,
        ids: Texts,
        wheres: Places,
        values: dict[str, Texts],
        reasons: NDArray[np.int8],
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
        return self.reason_name(int(self._reasons[index]))

    def reason_name(self, reason: int) -> str | None:
        """The name of one of the numbers that `reasons` gives."""
        return self._names[reason] if reason >= 0 else None

    def reasons(self, rows: NDArray[np.int64]) -> NDArray[np.int8]:
        """The same for many rows, as numbers; -1 for rows that may be dropped."""
        return self._reasons[rows]

    def ordered(self, order: NDArray[np.int64]) -> Entries:
        """The same rows, place i holding row order[i]."""
        texts, ids = self.texts.ordered(order), self.ids.ordered(order)
        values = {kind: each.ordered(order) for kind, each in self.values.items()}
        wheres, reasons = self.wheres.ordered(order), self._reasons[order]
        return Entries(texts, ids, wheres, values, reasons, self._names)


class _Collector:
    """Takes rows one by one or many together; texts go to files in a folder when one is given."""

    def __init__(self, kinds: Sequence[str], folder: Path | None) -> None:
        columns = ["texts", "ids", *(f"values-{kind}" for kind in kinds)]
        self._kinds = kinds
        self._writers = [Writer(folder / name if folder else None) for name in columns]
        self._files, self._names = list[str](), list[str]()
        self._file, self._line, self._reasons = array("I"), array("I"), array("b")
        self._ranks: array[float] | None = None

    def row(self, entry: Entry) -> None:
        """Take one row."""
        shown = (entry.text, entry.id, *entry.values)
        for writer, text in zip(self._writers, shown, strict=True):
            writer.add(text.encode("utf-8", "surrogatepass"))
        path, _, line = entry.where.rpartition(":")
        self._placed(path, entry.reason, np.array([line], np.uint32))
        if self._ranks is None and any(entry.rank):
            self._ranks = array("d", bytes(16 * (len(self._line) - 1)))
        if self._ranks is not None:
            self._ranks.extend(entry.rank)

    def batch(self, batch: Batch) -> None:
        """Take rows that have no rank and no values."""
        self._writers[0].extend(batch.texts)
        self._writers[1].extend(batch.ids)
        self._placed(batch.path, batch.reason, batch.lines)
        if self._ranks is not None:
            self._ranks.frombytes(bytes(16 * len(batch.lines)))

    def _placed(self, path: str, reason: str | None, lines: NDArray[np.uint32]) -> None:
        if not self._files or self._files[-1] != path:
            self._files.append(path)
        if reason is not None and reason not in self._names:
            self._names.append(reason)
        number = self._names.index(reason) if reason is not None else -1
        self._file.frombytes(np.full(len(lines), len(self._files) - 1, np.uint32).tobytes())
        self._line.frombytes(lines.tobytes())
        self._reasons.frombytes(np.full(len(lines), number, np.int8).tobytes())

    def entries(self) -> tuple[Entries, NDArray[np.float64] | None]:
        """All of them, and their ranks when one has any."""
        texts, ids, *rest = (Texts(writer.buffer()) for writer in self._writers)
        values = dict(zip(self._kinds, rest, strict=True))
        file, line = (np.frombuffer(each, np.uint32) for each in (self._file, self._line))
        reasons = np.frombuffer(self._reasons, np.int8)
        rank = self._ranks
        ranks = np.frombuffer(rank, np.float64).reshape(-1, 2) if rank is not None else None
        places = Places(self._files, file, line)
        return Entries(texts, ids, places, values, reasons, self._names), ranks


def collected(
    each: Iterable[Entry | Batch], kinds: Sequence[str], folder: Path | None
) -> tuple[Entries, NDArray[np.float64] | None]:
    """The rows, and their ranks, shape (rows, 2), when one has any; texts go to files in `folder`.

    `kinds` name the methods that an entry's `values` are for.
    """
    collector = _Collector(kinds, folder)
    for part in each:
        if isinstance(part, Batch):
            collector.batch(part)
        else:
            collector.row(part)
    return collector.entries()


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
