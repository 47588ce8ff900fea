"""Many texts, in memory or in a file: what a run holds of a row is an offset."""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import overload

import numpy as np

from llmctl.data.kernels import Buffer, Bytes, Ids

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

    def buffer(self) -> Buffer:
        """What was written; nothing can be added any more."""
        offsets = np.frombuffer(self._offsets, np.int64)
        if self._out is None or self._file is None:
            return Buffer(np.frombuffer(bytes(self._waiting), np.uint8), offsets)
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


class Texts(Sequence[str]):
    """Strings as UTF-8 in a buffer; `order` is another order of them, or a part."""

    def __init__(self, buffer: Buffer, order: Ids | None = None) -> None:
        self._buffer = buffer
        self._order = order
        self._data = memoryview(buffer.data)  # type: ignore[arg-type]

    @classmethod
    def of(cls, texts: Iterable[str], file: Path | None = None) -> Texts:
        """Keep texts, in `file` when one is given."""
        return cls(joined((t.encode("utf-8", "surrogatepass") for t in texts), file))

    def ordered(self, order: Ids) -> Texts:
        """The same texts, place i holding text order[i]."""
        return Texts(self._buffer, order if self._order is None else self._order[order])

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
