"""Which rows are learnt from and which are measured; files are read as often as needed.

No file is held in memory: rows are read once to count them and to find what is held out, and again
when they are tokenised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from llmctl import rows as row_files
from llmctl import shards, ui
from llmctl.artifact import Artifact
from llmctl.data import reading
from llmctl.data.formats.base import UnfitError
from llmctl.errors import InputError
from llmctl.records import row_id
from llmctl.schema.parts import Source, TrainData

Row = tuple[str, dict[str, Any]]
"""(file:line, row)."""
Rows = list[Row]
Files = tuple[Path, ...]
"""One source of rows: a file, or the shards of a set."""

NAMED = 5
"""Rows that a warning names."""


@dataclass(frozen=True)
class Stream:
    """Rows that can be gone through again and again."""

    begin: Callable[[], Iterator[Row]]
    count: int

    def __iter__(self) -> Iterator[Row]:
        return self.begin()

    def __len__(self) -> int:
        return self.count


class Reader:
    """Files of rows in any format; what each was read as is told and counted once."""

    def __init__(self, data: TrainData, artifact: Artifact) -> None:
        self.data, self.artifact = data, artifact
        self.known: set[Files] = set()

    def rows(self, files: Files) -> Iterator[Row]:
        """(file:line, row); rows in our own form are checked later."""
        mixed_in = any(_found(each.path) == files for each in self.data.mix)
        format = None if mixed_in else self.data.format
        told = reading.Reading()
        for where, row in reading.opened(files, format, told):
            if not isinstance(row, UnfitError):
                yield where, row
        if told.kind and files not in self.known:
            self.known.add(files)
            name = shards.name_of(files)
            ui.note(f"{name}: {told}")
            self.artifact.extra.setdefault("formats", {})[name] = told.dump()
            self.artifact.dropped.update(told.unfit)

    def keys(self, files: Files) -> Iterator[tuple[str, str]]:
        """(file:line, what makes two rows the same: their content, not their provenance)."""
        for where, row in self.rows(files):
            content = {k: v for k, v in row.items() if k not in ("id", "source", "meta")}
            yield where, row_id(row_files.dumps(content))


def split(data: TrainData, seed: int, artifact: Artifact) -> tuple[Rows, Rows]:
    """As `streams`, in memory and with what is in both: the caller looks for equal prompts."""
    train, held = streams(data, seed, artifact, disjoint=False)
    return list(train), held


def streams(
    data: TrainData, seed: int, artifact: Artifact, *, disjoint: bool = True
) -> tuple[Stream, Rows]:
    """(rows to learn from, rows to measure with); what leaves is named and counted."""
    reader = Reader(data, artifact)
    found = [_found(path) for path in (data.train, *(each.path for each in data.mix))]
    held_out = _held_out(data)
    for files in (*found, *(held_out or ())):
        shards.tell_part(files)
    if held_out is None:
        parts, held = _held_back(reader, found, data, seed)
    else:
        parts, held = _apart(reader, found, held_out, data, seed, disjoint)
    if not len(parts[0]):
        why = "every row is held out" if next(reader.rows(found[0]), None) else "has no rows"
        raise InputError(f"{data.train}: {why}; nothing is left to learn from")
    return mixed(parts, data.mix, seed, artifact), held


def _found(path: Path) -> Files:
    return tuple(shards.find(path))


def _held_out(data: TrainData) -> list[Files] | None:
    """Files of held-out rows: test splits, else validation splits; None when there are none."""
    if data.validation is not None:
        return [tuple(shards.held_out(data.validation))]
    folders = [data.train, *(each.path for each in data.mix)]
    return [tuple(found) for folder in folders if (found := shards.held_out_splits(folder))] or None


def _held_back(
    reader: Reader, sources: list[Files], data: TrainData, seed: int
) -> tuple[list[Stream], Rows]:
    """A share of all rows, chosen by their content and the seed."""
    each = [
        np.fromiter(
            (int(row_id(str(seed), row_files.dumps(row)), 16) for _, row in reader.rows(files)),
            np.uint64,
        )
        for files in sources
    ]
    keys = np.concatenate(each)
    back = np.zeros(len(keys), bool)
    back[np.argsort(keys, kind="stable")[: round(len(keys) * data.hold_out)]] = True
    first = np.cumsum([0, *map(len, each)])
    flags = [back[a:b] for a, b in pairwise(first)]
    parts = [_chosen(reader, files, ~flag) for files, flag in zip(sources, flags, strict=True)]
    every = Stream(
        lambda: chain.from_iterable(
            _chosen(reader, files, flag) for files, flag in zip(sources, flags, strict=True)
        ),
        int(back.sum()),
    )
    return parts, sample(every, data.eval_rows, seed)


def _apart(
    reader: Reader,
    sources: list[Files],
    held_out: list[Files],
    data: TrainData,
    seed: int,
    disjoint: bool,
) -> tuple[list[Stream], Rows]:
    """The rows of each source, when disjoint without those held out too; held-out rows."""
    held = [key for files in held_out for _, key in reader.keys(files)]
    seen = set(held) if disjoint else set()
    parts, leaked = [], []
    for files in sources:
        flags = []
        for where, key in reader.keys(files):
            flags.append(key not in seen)
            if key in seen:
                leaked.append(where)
        parts.append(_chosen(reader, files, np.array(flags, bool)))
    if leaked:
        reader.artifact.dropped["in_held_out"] += len(leaked)
        more = ", …" if len(leaked) > NAMED else ""
        ui.warn(
            f"{len(leaked)} rows are held out too and not learnt from: "
            f"{', '.join(leaked[:NAMED])}{more}"
        )
    every = Stream(lambda: chain.from_iterable(map(reader.rows, held_out)), len(held))
    return parts, sample(every, data.eval_rows, seed)


def _chosen(reader: Reader, files: Files, flags: Any) -> Stream:
    """The rows of a source whose flag is set."""
    return Stream(
        lambda: (row for row, flag in zip(reader.rows(files), flags, strict=True) if flag),
        int(flags.sum()),
    )


def sample(held: Stream, most: int, seed: int) -> Rows:
    """At most `most` rows, drawn with the seed, in their own order."""
    if len(held) <= most:
        return list(held)
    wanted = set(Random(seed).sample(range(len(held)), most))
    return [row for i, row in enumerate(held) if i in wanted]


def mixed(parts: list[Stream], mix: list[Source], seed: int, artifact: Artifact) -> Stream:
    """`parts[0]` whole and as many rows of each other part as its source says.

    With N rows in all, of which shares s come from some sources and M rows (whole passes) from the
    others: N = M / (1 - sum of s).
    """
    if not mix:
        return parts[0]
    fixed = [
        round((each.epochs or 1) * len(part)) if each.share is None else 0
        for each, part in zip(mix, parts[1:], strict=True)
    ]
    whole = (len(parts[0]) + sum(fixed)) / (1 - sum(each.share or 0 for each in mix))
    counts = [
        count if each.share is None else round(whole * each.share)
        for each, count in zip(mix, fixed, strict=True)
    ]
    for source, part, count in zip(mix, parts[1:], counts, strict=True):
        if count and not len(part):
            raise InputError(f"{source.path}: has no rows to mix in")
    taken = [parts[0]]
    for number, (part, count) in enumerate(zip(parts[1:], counts, strict=True)):
        taken.append(repeated(part, count, seed + number))
    told = zip([str(each.path) for each in mix], parts[1:], counts, strict=True)
    artifact.extra["mixture"] = [
        {"source": name, "rows": len(part), "taken": count} for name, part, count in told
    ]
    return Stream(lambda: chain.from_iterable(taken), sum(map(len, taken)))


def repeated(part: Stream, count: int, seed: int) -> Stream:
    """`count` rows: the part as often as it fits whole, and the rest drawn with the seed."""
    passes, rest = divmod(count, max(len(part), 1))
    drawn = set(Random(seed).sample(range(len(part)), rest))

    def rows() -> Iterator[Row]:
        for _ in range(passes):
            yield from part
        for number, row in enumerate(part):
            if number in drawn:
                yield row

    return Stream(rows, count)
