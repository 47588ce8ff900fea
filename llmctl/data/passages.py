"""Long exact repeats: where the same n words stand in two places.

Every window of n neighbouring words has a 64-bit hash; equal hashes are the same passage. Hashes
are compared a part at a time, so that memory is bounded; what is held is eight bytes per word.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llmctl import ui
from llmctl.data import kernels
from llmctl.data.kernels import Ids, Shape, Words, allocated

PART = 1 << 24
"""Windows that are sorted together (128 MB of hashes)."""
BULK = 1 << 22
"""Bytes of text that are hashed together."""


@dataclass(frozen=True)
class Wordings:
    """The words of many texts as hashes: text i is `units[begin[i]:begin[i + 1]]`."""

    units: Words
    begin: Ids

    @classmethod
    def of(cls, texts: Iterable[bytes], form: Shape, file: Path | None) -> Wordings:
        """Hash the words of texts; the hashes lie in `file` when one is given."""
        parts, sizes, group, bulk = list[Words](), list[Ids](), list[bytes](), 0
        out = file.open("wb") if file is not None else None

        def flush() -> None:
            buffer = kernels.Buffer.of(group)
            units, starts, _ = kernels.units_of(buffer.data, form)
            sizes.append(np.diff(np.searchsorted(starts, buffer.offsets)).astype(np.int64))
            if out is None:
                parts.append(units)
            else:
                out.write(units.tobytes())
            group.clear()

        for text in texts:
            group.append(text)
            bulk += len(text)
            if bulk >= BULK:
                flush()
                bulk = 0
        flush()
        begin = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.concatenate(sizes))])
        if out is None or file is None:
            return cls(np.concatenate(parts), begin)
        out.close()
        total = int(begin[-1])
        return cls(np.memmap(file, np.uint64, "r") if total else np.empty(0, np.uint64), begin)

    def windows(self, n: int, file: Path | None) -> tuple[Words, int]:
        """The hash of the n words from each word on; 0 where the text ends before.

        Also returns how many windows there are.
        """
        out = allocated((len(self.units),), np.uint64, file)
        row, rows, count = 0, len(self.begin) - 1, 0
        while row < rows:
            last = int(np.searchsorted(self.begin, self.begin[row] + BULK, "right")) - 1
            last = min(max(last, row + 1), rows)
            first, end = int(self.begin[row]), int(self.begin[last])
            made = kernels.windows(np.asarray(self.units[first:end]), n)
            ends = np.repeat(self.begin[row + 1 : last + 1], np.diff(self.begin[row : last + 1]))
            whole = np.arange(first, end) + n <= ends
            part = np.zeros(end - first, np.uint64)
            part[: len(made)] = made | np.uint64(1)  # never 0
            part[~whole] = 0
            out[first:end] = part
            count += int(whole.sum())
            row = last
        return out, count


def repeats(windows: Words, count: int) -> tuple[Ids, Ids]:
    """(places, first place of the same passage) of all windows that occur more than once."""
    parts = max(1, -(-count // PART))
    found, firsts = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    with ui.progress("repeats", parts) as advance:
        for part in range(parts):
            places, first = _repeats(windows, part, parts)
            found.append(places)
            firsts.append(first)
            advance()
    places, first = np.concatenate(found), np.concatenate(firsts)
    order = np.argsort(places)
    return places[order], first[order]


def _repeats(windows: Words, part: int, parts: int) -> tuple[Ids, Ids]:
    """Those of the windows whose hash falls into one part of several."""
    places = np.concatenate(
        [
            at + np.flatnonzero((piece != 0) & ((piece >> np.uint64(1)) % parts == part))
            for at in range(0, len(windows), PART)
            for piece in [np.asarray(windows[at : at + PART])]
        ]
        or [np.empty(0, np.int64)]
    )
    values = windows[places]
    order = np.argsort(values, kind="stable")
    values, places = values[order], places[order]
    same = np.diff(values) == 0
    many = (np.append(same, False) | np.append(False, same))[: len(values)]
    values, places = values[many], places[many]
    new = np.append(True, np.diff(values) != 0)[: len(values)]
    head = np.maximum.accumulate(np.where(new, np.arange(len(values)), 0))
    return places, places[head] if len(head) else places


def covered(places: Ids, n: int, begin: int, end: int) -> int:
    """Words of begin..end that lie in a window starting at one of `places`, which are sorted."""
    if not len(places):
        return 0
    reach = np.minimum(places + n, end)
    gap = np.append(places[1:], end)
    return int(np.minimum(reach, gap).sum() - places.sum()) if end > begin else 0


def union(places: Ids, n: int, size: int) -> np.ndarray:
    """Mask, shape (size,), of the words that the windows at `places` cover."""
    edge = np.zeros(size + 1, np.int64)
    np.add.at(edge, places, 1)
    np.subtract.at(edge, np.minimum(places + n, size), 1)
    mask: np.ndarray = np.cumsum(edge[:-1]) > 0
    return mask
