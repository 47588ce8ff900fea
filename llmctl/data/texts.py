"""Many texts, in memory or in a file: what a run holds of a row is an offset."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray

from llmctl.data.folding import encoded
from llmctl.data.kernels import GROUP, Buffer, Bytes, Ids, bounds, cuts
from llmctl.data.threads import mapped

FLUSHED = 1 << 22
"""Bytes that are gathered before they are written."""
AT_ONCE = 1 << 14
"""Offsets that are looked up together."""


def picked(texts: Sequence[str], places: Ids) -> Iterator[str]:
    """The texts at these places, in turn."""
    return texts.some(places) if isinstance(texts, Texts) else (texts[i] for i in places.tolist())


class Writer:
    """Texts one after the other, in memory or in a file."""

    def __init__(self, file: Path | None = None) -> None:
        self._file = file
        self._out = file.open("wb") if file else None
        self._offsets = array("q", [0])
        self._waiting = bytearray()

    def add(self, text: bytes) -> None:
        """Append one text."""
        self._waiting += text
        self._waiting += b"\n"
        self._offsets.append(self._offsets[-1] + len(text) + 1)
        if self._out is not None and len(self._waiting) >= FLUSHED:
            self._out.write(self._waiting)
            self._waiting.clear()

    def extend(self, texts: Buffer) -> None:
        """Append many texts."""
        ends = texts.offsets[1:] - texts.offsets[0] + self._offsets[-1]
        self._offsets.frombytes(ends.tobytes())
        self._waiting += texts.data[texts.offsets[0] : texts.offsets[-1]].data
        if self._out is not None and len(self._waiting) >= FLUSHED:
            self._out.write(self._waiting)
            self._waiting.clear()

    def buffer(self) -> Buffer:
        """What was written; nothing can be added any more."""
        offsets = np.frombuffer(self._offsets, np.int64)
        if self._out is None or self._file is None:
            return Buffer(np.frombuffer(self._waiting, np.uint8), offsets)
        self._out.write(self._waiting)
        self._out.close()
        return Buffer(in_place(self._file), offsets)


def joined(texts: Iterable[bytes], file: Path | None) -> Buffer:
    """A buffer of the texts, each followed by a newline; in `file` when one is given."""
    if file is None:
        return Buffer.of(texts)
    writer = Writer(file)
    for text in texts:
        writer.add(text)
    return writer.buffer()


def in_place(file: Path) -> Bytes:
    """The bytes of a file that is read where it lies; its pages can be taken back at any time."""
    if not file.stat().st_size:
        return np.empty(0, np.uint8)
    with file.open("rb") as source:
        return np.frombuffer(mmap.mmap(source.fileno(), 0, access=mmap.ACCESS_READ), np.uint8)


class Folded:
    """Texts as they lie, and in place of some of them (not ASCII, rising places) others."""

    def __init__(self, buffer: Buffer, order: Ids | None, foreign: Ids, beside: Buffer) -> None:
        self._buffer, self._order, self._foreign, self._beside = buffer, order, foreign, beside

    def sizes(self, ids: Ids) -> Ids:
        """Bytes of some texts."""
        sizes, beside, at = self._buffer.sizes(self._place(ids)), *self._found(ids)
        sizes[beside] = self._beside.sizes(at)
        return sizes

    def part(self, ids: Ids) -> tuple[Bytes, Ids]:
        """Some texts one after the other, and their offsets."""
        beside, at = self._found(ids)
        if not len(at):
            return self._buffer.part(self._place(ids))
        plain = np.flatnonzero(~beside)
        data, offsets = self._buffer.part(self._place(ids[plain]))
        others, theirs = self._beside.part(at)
        sizes = np.empty(len(ids), np.int64)
        sizes[plain], sizes[beside] = np.diff(offsets), np.diff(theirs)
        views = memoryview(data), memoryview(others)  # type: ignore[arg-type]
        return np.frombuffer(_merged(views, offsets, theirs, beside), np.uint8), bounds(sizes)

    def _place(self, ids: Ids) -> Ids:
        """Where texts lie in the buffer."""
        return ids if self._order is None else self._order[ids]

    def _found(self, ids: Ids) -> tuple[NDArray[np.bool_], Ids]:
        """Which of the texts lie beside, and where."""
        at = np.searchsorted(self._foreign, ids)
        beside = np.append(self._foreign, -1)[at] == ids
        return beside, at[beside]


def _merged(
    views: tuple[memoryview, memoryview], offsets: Ids, theirs: Ids, beside: NDArray[np.bool_]
) -> bytes:
    """Texts of two buffers in turn; runs of the first one are copied as one."""
    where = np.flatnonzero(beside)
    # before text `where[i]` stand where[i] - i plain ones
    stops = [0, *offsets[where - np.arange(len(where))].tolist(), int(offsets[-1])]
    at = theirs.tolist()
    pieces = [views[0][: stops[1]]]
    for i in range(len(where)):
        pieces.append(views[1][at[i] : at[i + 1]])
        pieces.append(views[0][stops[i + 1] : stops[i + 2]])
    return b"".join(pieces)


def _foreign(buffer: Buffer, order: Ids | None, threads: int) -> Ids:
    """The places of an order whose texts are not ASCII."""

    def work(cut: tuple[int, int]) -> NDArray[np.bool_]:
        offsets = buffer.offsets[cut[0] : cut[1] + 1]
        data = buffer.data[offsets[0] : offsets[-1]]
        highest: NDArray[np.uint8] = np.maximum.reduceat(data, offsets[:-1] - offsets[0])
        return highest > 0x7F

    parts = mapped(work, cuts(np.diff(buffer.offsets), GROUP), threads)
    high = np.concatenate([np.empty(0, bool), *parts])
    return np.flatnonzero(high if order is None else high[order])


class Texts(Sequence[str]):
    """Strings as UTF-8 in a buffer; `order` is another order of them, or a part."""

    def __init__(self, buffer: Buffer, order: Ids | None = None) -> None:
        self._buffer = buffer
        self._order = order
        self._data = memoryview(buffer.data)  # type: ignore[arg-type]
        self._foreign: Ids | None = None
        self._folded: dict[bool, Folded] = {}

    @classmethod
    def of(cls, texts: Iterable[str], file: Path | None = None) -> Texts:
        """Keep texts, in `file` when one is given."""
        return cls(joined((t.encode("utf-8", "surrogatepass") for t in texts), file))

    def ordered(self, order: Ids) -> Texts:
        """The same texts, place i holding text order[i]."""
        return Texts(self._buffer, order if self._order is None else self._order[order])

    def folded(self, *, case: bool, file: Path | None, threads: int = 1) -> Folded:
        """The texts as the kernels read them, made once; in `file` what is not ASCII.

        ASCII is folded by the kernels' byte tables.
        """
        if case not in self._folded:
            foreign = self.foreign(threads)
            texts = (encoded(text, case=case) for text in self.some(foreign))
            self._folded[case] = self.with_beside(foreign, joined(texts, file))
        return self._folded[case]

    def foreign(self, threads: int = 1) -> Ids:
        """The places of the texts that are not ASCII."""
        if self._foreign is None:
            self._foreign = _foreign(self._buffer, self._order, threads)
        return self._foreign

    def with_beside(self, places: Ids, texts: Buffer) -> Folded:
        """The texts with others in some places, which rise."""
        return Folded(self._buffer, self._order, places, texts)

    def empty(self, first: int = 0) -> int:
        """How many texts from `first` on, as they were kept, have no character."""
        return int((np.diff(self._buffer.offsets[first:]) == 1).sum())  # a newline is behind each

    def __len__(self) -> int:
        return len(self._buffer) if self._order is None else len(self._order)

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return list(self.some(np.arange(len(self))[index]))
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        [text] = self.some(np.array([index % len(self)]))
        return text

    def __iter__(self) -> Iterator[str]:
        return self.some(np.arange(len(self)))

    def some(self, places: Ids) -> Iterator[str]:
        """The texts at these places."""
        data = self._data
        for first in range(0, len(places), AT_ONCE):
            rows = places[first : first + AT_ONCE]
            if self._order is not None:
                rows = self._order[rows]
            begins = self._buffer.offsets[rows].tolist()
            ends = self._buffer.offsets[rows + 1].tolist()
            for begin, end in zip(begins, ends, strict=True):
                yield str(data[begin : end - 1], "utf-8", "surrogatepass")
