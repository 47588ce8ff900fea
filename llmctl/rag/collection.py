"""The rows of an ingest artifact by unit: appended, taken over from the snapshot before, resumed.

A unit (a file, a page, a ledger entry) owns consecutive lines of documents.jsonl, chunks.jsonl,
parents.jsonl and dropped.jsonl and consecutive rows of vectors.npy. `units.jsonl` says how many,
in the same order, so the lines of an unchanged unit are copied as bytes: nothing is parsed and
nothing embedded. A long unit has several rows in units.jsonl, the last of them with `last`: a run
that was killed goes on behind the last row that is there.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from llmctl.rag import vectors
from llmctl.rows import dumps

if TYPE_CHECKING:
    import numpy as np

FILES = ("documents", "chunks", "parents", "dropped")
UNITS = "units.jsonl"
BLOCK = 1 << 22
"""Bytes that are copied at once."""
CHUNKS = FILES.index("chunks")


@dataclass
class Part:
    """What a unit, or a piece of a long one, adds to the files."""

    uri: str
    digest: str
    lines: list[list[bytes]] = field(default_factory=lambda: [[] for _ in FILES])
    items: int = 0
    """Documents taken from the unit, also those left out: where a killed run goes on."""
    cut: list[int] = field(default_factory=list)
    """Which of its chunks are longer than the embedder reads."""
    characters: int = 0
    removed: dict[str, int] = field(default_factory=dict)
    error: bool = False
    last: bool = False

    def add(self, name: str, row: Mapping[str, Any]) -> None:
        """One row of one of FILES."""
        self.lines[FILES.index(name)].append(dumps(row).encode() + b"\n")

    def row(self) -> dict[str, Any]:
        """The part's row in units.jsonl."""
        return {
            "uri": self.uri,
            "digest": self.digest,
            "rows": [len(lines) for lines in self.lines],
            "bytes": [sum(map(len, lines)) for lines in self.lines],
            "items": self.items,
            "cut": self.cut,
            "characters": self.characters,
            "removed": self.removed,
            "error": self.error,
            "last": self.last,
        }


class Kept:
    """The parts that a folder holds, as numbers: a part costs about 100 bytes of memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = [array("q", [0]) for _ in FILES]
        self.bytes = [array("q", [0]) for _ in FILES]
        self.lines = array("q", [0])
        self.unit: dict[str, tuple[int, int]] = {}
        """uri -> its first part and the part behind its last."""
        self.complete = 0
        """Parts up to the end of the last unit that is whole."""
        first, sizes = 0, [_size(folder / f"{name}.jsonl") for name in FILES]
        for line in _lines(folder / UNITS):
            row = _row(line)
            if row is None or any(
                self.bytes[i][-1] + row["bytes"][i] > s for i, s in enumerate(sizes)
            ):
                break  # half a row, or rows that never reached the disk: what is before them counts
            for i in range(len(FILES)):
                self.rows[i].append(self.rows[i][-1] + row["rows"][i])
                self.bytes[i].append(self.bytes[i][-1] + row["bytes"][i])
            self.lines.append(self.lines[-1] + len(line))
            if row["last"]:
                self.unit[row["uri"]] = (first, len(self))
                self.complete = first = len(self)

    def __len__(self) -> int:
        return len(self.lines) - 1

    def parts(self, first: int, last: int) -> Iterator[dict[str, Any]]:
        """The rows of units.jsonl from `first` to before `last`."""
        for line in self._piece(self.folder / UNITS, self.lines[first], self.lines[last]):
            yield json.loads(line)

    def read(self, name: str, first: int, last: int) -> Iterator[dict[str, Any]]:
        """The rows of one of FILES of these parts."""
        ends = self.bytes[FILES.index(name)]
        for line in self._piece(self.folder / f"{name}.jsonl", ends[first], ends[last]):
            yield json.loads(line)

    @staticmethod
    def _piece(path: Path, start: int, end: int) -> Iterator[bytes]:
        if start == end:
            return
        with path.open("rb") as file:
            file.seek(start)
            while start < end:
                line = file.readline()
                start += len(line)
                yield line


class Writer:
    """Appends parts; what a run that was killed left in the folder is gone on with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.found = Kept(folder)
        self._files: list[BinaryIO] = [self._opened(f"{name}.jsonl") for name in FILES]
        self._units = self._opened(UNITS)
        self.vectors = vectors.Appender(folder / vectors.NAME)
        if self.vectors.size < self.found.rows[CHUNKS][-1]:
            self.found = Kept(folder / "none")  # the power failed: begin again
        self.rows = [0] * len(FILES)
        self.cut_back(len(self.found))

    def _opened(self, name: str) -> BinaryIO:
        path = self.folder / name
        file = path.open("r+b" if path.is_file() else "w+b")
        file.seek(0, 2)
        return file

    def cut_back(self, parts: int) -> None:
        """Forget everything behind a number of parts."""
        for index, file in enumerate(self._files):
            file.truncate(self.found.bytes[index][parts])
            file.seek(0, 2)
            self.rows[index] = self.found.rows[index][parts]
        self._units.truncate(self.found.lines[parts])
        self._units.seek(0, 2)
        self.vectors.cut_back(self.rows[CHUNKS])

    def add(self, part: Part, found: np.ndarray | None) -> None:
        """Append a part with the vectors of its chunks, shape (chunks, dimensions)."""
        for index, lines in enumerate(part.lines):
            self._files[index].writelines(lines)
            self.rows[index] += len(lines)
        if found is not None and len(found):
            self.vectors.add(found)
        self._note(dumps(part.row()).encode() + b"\n")

    def carry(self, old: Kept, first: int, last: int) -> None:
        """Copy the parts of a snapshot, from `first` to before `last`, byte by byte."""
        for index, name in enumerate(FILES):
            ends, rows = old.bytes[index], old.rows[index]
            _copy(old.folder / f"{name}.jsonl", ends[first], ends[last], self._files[index])
            self.rows[index] += rows[last] - rows[first]
        chunks = old.rows[CHUNKS]
        if chunks[last] > chunks[first]:
            made = vectors.mapped(old.folder / vectors.NAME)
            step = max(1, BLOCK // (4 * made.shape[1]))
            for at in range(chunks[first], chunks[last], step):
                self.vectors.add(made[at : min(at + step, chunks[last])])
        self._flush()
        _copy(old.folder / UNITS, old.lines[first], old.lines[last], self._units)
        self._units.flush()

    def _note(self, line: bytes) -> None:
        # last, when everything else is with the system: a row in units.jsonl means that it is whole
        self._flush()
        self._units.write(line)
        self._units.flush()

    def _flush(self) -> None:
        for file in self._files:
            file.flush()
        self.vectors.flush()

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, *error: object) -> None:
        for file in (*self._files, self._units):
            file.close()
        self.vectors.close()


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _lines(path: Path) -> Iterator[bytes]:
    if path.is_file():
        with path.open("rb") as file:
            yield from file


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        return json.loads(line) if line.endswith(b"\n") else None
    except ValueError:
        return None


def _copy(path: Path, start: int, end: int, to: BinaryIO) -> None:
    if start == end:
        return
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            block = file.read(min(BLOCK, end - start))
            to.write(block)
            start += len(block)


@dataclass
class Snapshot:
    """What a store is written from: all rows, and what changed since the store of `old`."""

    folder: Path
    owner: str
    """Tells collections of one artifact from those of others on a server."""
    old: Path | None = None
    """The folder of the snapshot before, when its store can be taken over."""
    removed: Sequence[str] = ()
    """Ids that are in `old` and no more, or with other vectors."""
    added: Sequence[int] = ()
    """Rows, ascending, that are not in `old`."""

    @property
    def rows(self) -> int:
        """How many chunks there are."""
        return len(self.vectors)

    @property
    def vectors(self) -> np.ndarray:
        """All vectors, shape (chunks, dimensions), in the file."""
        return vectors.mapped(self.folder / vectors.NAME)

    def blocks(
        self, size: int, only: Sequence[int] | None = None
    ) -> Iterator[tuple[list[dict[str, Any]], np.ndarray]]:
        """(chunks, vectors) of all rows, or only of some, `size` at a time."""
        made = self.vectors
        block: list[dict[str, Any]] = []
        places: list[int] = []
        wanted = iter(range(len(made)) if only is None else only)
        following = next(wanted, None)
        for number, line in enumerate(_lines(self.folder / "chunks.jsonl")):
            if following is None:
                break
            if number != following:
                continue
            block.append(json.loads(line))
            places.append(number)
            following = next(wanted, None)
            if len(block) == size or following is None:
                yield block, made[places]
                block, places = [], []
