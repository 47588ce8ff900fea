"""Files of rows as blocks of whole lines: read and copied from without a look at each row."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from llmctl.data.kernels import Ids
from llmctl.data.runners.local import LocalRunner
from llmctl.errors import InputError

SIZE = 1 << 18
"""Bytes that are read together; and the rest of the last line."""
LINES = (".jsonl", ".jsonl.gz", ".ndjson")
BLANK = np.isin(np.arange(256), list(b" \t\r\n\x0b\x0c"))
"""What bytes.isspace() takes for a space, by byte value."""


@dataclass(frozen=True)
class Block:
    """`count` whole lines, each with its newline; `first` is the number of the first, from 1."""

    data: bytes
    first: int
    count: int


def has_lines(path: Path) -> bool:
    """Whether a path is a file whose lines are rows."""
    return path.name.endswith(LINES) and path.is_file()


def whole_lines(path: Path, threads: int = 1) -> Iterator[bytes]:
    """The bytes of a file that may be compressed, many lines at a time.

    The last line gets a newline if it has none.
    """
    return (data for data, _ in _counted(path, threads))


def blocks(path: Path, threads: int = 1) -> Iterator[Block]:
    """The same with the numbers of the lines."""
    first = 1
    for data, count in _counted(path, threads):
        yield Block(data, first, count)
        first += count


def _counted(path: Path, threads: int) -> Iterator[tuple[bytes, int]]:
    """Whole lines and how many they are, read on threads where their places are known."""

    def ended(data: bytes) -> tuple[bytes, int]:
        data = data if data.endswith(b"\n") else data + b"\n"
        return data, data.count(b"\n")

    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        if isinstance(file, gzip.GzipFile):
            yield from map(ended, _unpacked(path, file))
            return
        read = LocalRunner().parts(
            lambda cut: ended(os.pread(file.fileno(), cut[1] - cut[0], cut[0])),
            _cuts(file),
            threads,
        )
        yield from read


def _cuts(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Where blocks of whole lines begin and end."""
    begin, size = 0, os.fstat(file.fileno()).st_size
    while begin < size:
        file.seek(min(begin + SIZE, size) - 1)
        file.readline()  # to the end of the line that this byte belongs to
        yield begin, file.tell()
        begin = file.tell()


def _unpacked(path: Path, file: gzip.GzipFile) -> Iterator[bytes]:
    try:
        while data := file.read(SIZE):
            yield data if data.endswith(b"\n") else data + file.readline()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise InputError(f"{path}: not a whole gzip file: {error}") from None


def spans(lines: bytes) -> tuple[Ids, Ids]:
    """Where each line that is not blank begins and ends."""
    data = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(data == ord("\n")) + 1
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]])
    maybe = np.flatnonzero(BLANK[data[begins]])
    blank = [i for i in maybe.tolist() if lines[begins[i] : ends[i]].isspace()]
    return (np.delete(begins, blank), np.delete(ends, blank)) if blank else (begins, ends)


def kept(lines: bytes, begins: Ids, ends: Ids, stays: NDArray[np.bool_]) -> Iterator[memoryview]:
    """The lines that stay, neighbours together."""
    view, begin, end = memoryview(lines), begins[stays], ends[stays]
    apart = np.flatnonzero(begin[1:] != end[:-1])
    first, last = np.append(0, apart + 1), np.append(apart, len(begin) - 1)
    if len(begin):
        for a, b in zip(begin[first].tolist(), end[last].tolist(), strict=True):
            yield view[a:b]
