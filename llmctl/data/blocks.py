"""Files of rows as blocks of whole lines: read and copied from without a look at each row."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from llmctl.data.kernels import Ids
from llmctl.errors import InputError

SIZE = 1 << 20
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


def whole_lines(path: Path) -> Iterator[bytes]:
    """The bytes of a file that may be compressed, many lines at a time.

    The last line gets a newline if it has none.
    """
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            while data := file.read(SIZE):
                if not data.endswith(b"\n"):
                    data += file.readline()
                yield data if data.endswith(b"\n") else data + b"\n"
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file: {error}") from None


def blocks(path: Path) -> Iterator[Block]:
    """The same with the numbers of the lines."""
    first = 1
    for data in whole_lines(path):
        count = data.count(b"\n")
        yield Block(data, first, count)
        first += count


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
