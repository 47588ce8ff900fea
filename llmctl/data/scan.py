"""Rows of a file of JSON lines, many together: on threads where the extra `fast` is installed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from llmctl.data import blocks, lines
from llmctl.data.blocks import Block
from llmctl.data.entries import Batch, short
from llmctl.data.kernels import Buffer, Kernel, bounds
from llmctl.data.runners.local import LocalRunner


def able(path: Path, fields: Sequence[str], use: Kernel) -> bool:
    """Whether the compiled reader can read these fields of this file."""
    nested = any("." in name for name in fields) or len(set(fields)) < len(fields)
    return use.name == "numba" and blocks.has_lines(path) and not nested


def batches(
    path: Path, fields: Sequence[str], threads: int, reason: str | None = None
) -> Iterator[Batch]:
    """All rows of a file, in order; raises at the first line that is not a row."""
    work = partial(batch, path, tuple(fields), reason)
    return LocalRunner().parts(work, blocks.blocks(path), threads)


def batch(path: Path, fields: tuple[str, ...], reason: str | None, block: Block) -> Batch:
    from llmctl.data import scan_numba

    name = short(str(path)).encode("utf-8", "surrogatepass")
    encoded = tuple(each.encode("utf-8", "surrogatepass") for each in fields)
    texts, text_ends, ids, id_ends, numbers, slow = scan_numba.lines(
        np.frombuffer(block.data, np.uint8), block.count, block.first, name, encoded
    )
    both = Buffer(texts, text_ends), Buffer(ids, id_ends)
    left = np.flatnonzero(slow[:, 0] >= 0)
    if len(left):
        both = _with_slow(path, fields, block, both, (left, numbers, slow))
    return Batch(str(path), numbers, *both, reason)


def _with_slow(
    path: Path, fields: tuple[str, ...], block: Block, both: tuple[Buffer, Buffer], left: Any
) -> tuple[Buffer, Buffer]:
    """The rows that the compiled reader left, read one by one and put in their places."""
    rows, numbers, slow = left
    found: tuple[list[bytes], list[bytes]] = ([], [])
    for row in rows.tolist():
        where = f"{path}:{numbers[row]}"
        begin, end = slow[row].tolist()
        each = lines.row_of(block.data[begin:end], where)
        text, name = lines.text_of(each, fields, where), str(each.get("id", short(where)))
        for parts, value in zip(found, (text, name), strict=True):
            parts.append(value.encode("utf-8", "surrogatepass") + b"\n")
    one, other = (_filled(each, rows, parts) for each, parts in zip(both, found, strict=True))
    return one, other


def _filled(buffer: Buffer, rows: Any, parts: list[bytes]) -> Buffer:
    """The buffer with texts in rows that have none yet."""
    sizes = np.diff(buffer.offsets)
    sizes[rows] = [len(part) for part in parts]
    view, pieces, at = memoryview(buffer.data), list[Any](), 0  # type: ignore[arg-type]
    for row, part in zip(rows.tolist(), parts, strict=True):
        end = int(buffer.offsets[row])
        pieces += [view[at:end], part]
        at = end
    data = np.frombuffer(b"".join([*pieces, view[at:]]), np.uint8)
    return Buffer(data, bounds(sizes))
