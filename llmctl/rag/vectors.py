"""Vectors in a file that grows: an ordinary .npy at every moment, read where it lies.

Row i of `vectors.npy` (float32, shape (chunks, dimensions), length 1) is line i of chunks.jsonl.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    import numpy as np

NAME = "vectors.npy"
HEADER = 128
"""Bytes before the first row; numpy leaves room in its header for the first axis to grow."""


class Appender:
    """Appends rows to a .npy file; `dimensions` is 0 until the first row is there."""

    def __init__(self, path: Path) -> None:
        self.path, self.dimensions, self.rows = path, 0, 0
        if path.is_file() and path.stat().st_size >= HEADER:
            self.dimensions = _dimensions(path)
        self._file: BinaryIO = path.open("r+b" if self.dimensions else "w+b")
        self._file.seek(0, 2)

    def cut_back(self, rows: int) -> None:
        """Forget the rows from number `rows` on."""
        self.rows = rows
        self._file.truncate(HEADER + 4 * self.dimensions * rows if self.dimensions else 0)
        self._file.seek(0, 2)

    def add(self, vectors: np.ndarray) -> None:
        """Append float32 rows, shape (any, dimensions)."""
        import numpy as np

        if not self.dimensions:
            self.dimensions = int(vectors.shape[1])
            self._header(0)
            self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(vectors, dtype="<f4").data)
        self.rows += len(vectors)

    @property
    def size(self) -> int:
        """Rows that the file can hold by its size, before anything is added."""
        if not self.dimensions:
            return 0
        return (self.path.stat().st_size - HEADER) // (4 * self.dimensions)

    def flush(self) -> None:
        """Hand what was added to the system: from here on a kill does not lose it."""
        self._file.flush()

    def close(self) -> None:
        """Write how many rows there are into the header."""
        if self.dimensions:
            self._header(self.rows)
        self._file.close()

    def _header(self, rows: int) -> None:
        from numpy.lib.format import write_array_header_1_0

        self._file.seek(0)
        write_array_header_1_0(
            self._file, {"descr": "<f4", "fortran_order": False, "shape": (rows, self.dimensions)}
        )
        assert self._file.tell() == HEADER, "the header of an .npy file is not 128 bytes"


def _dimensions(path: Path) -> int:
    from numpy.lib.format import read_array_header_1_0, read_magic

    with path.open("rb") as file:
        read_magic(file)
        return int(read_array_header_1_0(file)[0][1])


def mapped(path: Path) -> np.ndarray:
    """The rows of a file, shape (chunks, dimensions), not read before they are asked for."""
    import numpy as np

    found: Any = np.load(path, mmap_mode="r", allow_pickle=False)
    rows: np.ndarray = found
    return rows
