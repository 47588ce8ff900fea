"""Rows without repeats: `kept.jsonl` byte for byte, `dropped.jsonl` with each row's kept twin."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from itertools import chain
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from llmctl import rows as row_files
from llmctl import ui
from llmctl.data import kernels, lines
from llmctl.data.dedupers.base import Found, Rows
from llmctl.data.texts import Texts, Writer
from llmctl.data.twins import components
from llmctl.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmctl.artifact import Artifact
    from llmctl.schema.dedup import DedupRecipe, Keep

HELD_OUT = ("validation", "test")
BASE_MB, PER_BYTE = 120, 4
"""Memory of a run without rows, in MB, and bytes for each byte of rows."""


@dataclass(frozen=True)
class Entry:
    """One row as it is compared; `reason` is what a repeat of it is called, None in the data."""

    id: str
    text: str
    where: str
    reason: str | None = None
    rank: tuple[float, float] = (0.0, 0.0)


class Entries(Sequence[Entry]):
    """Rows in an order; of each only offsets are held when the rest lies in files."""

    def __init__(
        self, texts: Texts, ids: Texts, wheres: Texts, reasons: NDArray[np.int64], names: list[str]
    ) -> None:
        self.texts, self.ids, self.wheres = texts, ids, wheres
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
        reason = int(self._reasons[index])
        return self._names[reason] if reason >= 0 else None

    def ordered(self, order: NDArray[np.int64]) -> Entries:
        """The same rows, place i holding row order[i]."""
        texts, ids, wheres = (s.ordered(order) for s in (self.texts, self.ids, self.wheres))
        return Entries(texts, ids, wheres, self._reasons[order], self._names)


def collected(each: Iterable[Entry], folder: Path | None) -> tuple[Entries, NDArray[np.float64]]:
    """The entries and their ranks, shape (entries, 2); texts go to files in `folder`."""
    names = ("texts", "ids", "wheres")
    writers = [Writer(folder / name if folder else None) for name in names]
    reasons, known, ranks = array("q"), list[str](), array("d")
    for entry in each:
        for writer, text in zip(writers, (entry.text, entry.id, entry.where), strict=True):
            writer.add(text.encode("utf-8", "surrogatepass"))
        if entry.reason is not None and entry.reason not in known:
            known.append(entry.reason)
        reasons.append(-1 if entry.reason is None else known.index(entry.reason))
        ranks.extend(entry.rank)
    texts, ids, wheres = (Texts(writer.buffer()) for writer in writers)
    rank = np.frombuffer(ranks, np.float64).reshape(-1, 2)
    return Entries(texts, ids, wheres, np.frombuffer(reasons, np.int64), known), rank


@dataclass
class Verdicts:
    """The decision on each entry, in order of preference: `twin` -1 is kept."""

    entries: Entries
    twin: NDArray[np.int64]
    score: NDArray[np.float64]
    kind: list[str]
    cluster: NDArray[np.int64]
    found: dict[str, Found] = field(default_factory=dict)

    def reason(self, i: int) -> str:
        """Why a row was dropped: the kind, or the name of the held-out set it repeats."""
        return self.entries.reason(int(self.twin[i])) or self.kind[i]


def run(recipe: DedupRecipe, artifact: Artifact) -> None:
    """Write kept.jsonl, dropped.jsonl, report.html, and the held-out splits unchanged."""
    files = [row_files.find(artifact.input(key)) for key in recipe.files()]
    spill = spill_folder(recipe, artifact, files)
    entries, rank = collected(chain(references(recipe, artifact), entries_of(recipe, files)), spill)
    fixed = entries.fixed
    if len(entries) == fixed:
        raise InputError(f"{files[0]}: has no rows")
    by_rank = np.lexsort((rank[fixed:, 1], rank[fixed:, 0])) + fixed
    order = np.concatenate([np.arange(fixed), by_rank])
    ui.note(f"comparing {len(entries) - fixed} rows, {fixed} held-out rows")
    verdicts = judge(recipe, entries.ordered(order), fixed, spill)
    place = np.argsort(order)  # entry number -> its place by preference
    kept = (verdicts.twin[place] < 0)[fixed:]
    copy_kept(artifact, files, kept)
    drops = (row(recipe, verdicts, int(i)) for i in place[fixed:] if verdicts.twin[i] >= 0)
    artifact.write_jsonl("dropped.jsonl", drops)
    copy_splits(recipe, artifact)
    measure(artifact, verdicts, fixed)
    from llmctl.data.dedup_report import write

    write(recipe, artifact, verdicts, fixed)


def spill_folder(recipe: DedupRecipe, artifact: Artifact, files: list[Path]) -> Path | None:
    """Where to work when the rows do not fit into the memory that the recipe allows."""
    if fits(recipe, sum(path.stat().st_size * _packed(path) for path in files)):
        return None
    ui.note("the rows do not fit into `memory_mb`: working from files")
    folder = artifact.scratch / "spill"
    folder.mkdir(exist_ok=True)
    return folder


def fits(recipe: DedupRecipe, size: int) -> bool:
    """Whether `size` bytes of rows can be worked on in memory."""
    return BASE_MB + PER_BYTE * size / 2**20 <= recipe.memory_mb


def _packed(path: Path) -> int:
    """How much larger the rows are than their file."""
    return 5 if path.suffix in (".gz", ".parquet") else 1


def entries_of(recipe: DedupRecipe, files: list[Path]) -> Iterator[Entry]:
    """The rows to deduplicate, in their own order."""
    for path in files:
        for where, each in lines.parsed(path):
            text = lines.text_of(each, recipe.text, where)
            rank = preference(recipe.keep, each, text, path, where)
            yield Entry(str(each.get("id", _short(where))), text, where, None, rank)


def references(recipe: DedupRecipe, artifact: Artifact) -> Iterator[Entry]:
    """Rows that may not occur in the data: the held-out splits, and the files of `against`."""
    files = [(path, "leak") for path in splits(recipe, artifact)] if recipe.leaks else []
    for i in range(len(recipe.against)):
        files.append((row_files.find(artifact.input(f"against.{i}")), "against"))
    for path, reason in files:
        for where, each in lines.parsed(path):
            text = lines.text_of(each, recipe.text, where)
            yield Entry(str(each.get("id", _short(where))), text, where, reason)


def splits(recipe: DedupRecipe, artifact: Artifact) -> list[Path]:
    """The held-out files beside the train split of an artifact."""
    found = []
    for key in recipe.files():
        folder = artifact.input(key)
        for split in HELD_OUT if folder.is_dir() else ():
            try:
                found.append(row_files.find(folder, split))
            except InputError:  # an artifact may lack a split
                continue
    return found


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


def threads_of(recipe: DedupRecipe) -> int:
    """The threads to use."""
    return recipe.threads or len(os.sched_getaffinity(0))


def judge(recipe: DedupRecipe, entries: Entries, fixed: int, spill: Path | None = None) -> Verdicts:
    """Run the methods in one plan over entries in order of preference."""
    use = kernels.kernel(recipe.kernel)
    texts = Rows(entries.texts, fixed, use, threads_of(recipe), recipe.seed, spill)
    twin, score = np.full(len(entries), -1, np.int64), np.zeros(len(entries))
    kind, found = [""] * len(entries), {}
    for method in sorted(recipe.methods, key=lambda m: m.order):
        result = found[method.kind] = method.find(texts, twin < 0)
        for i in np.flatnonzero(result.twin >= 0).tolist():
            twin[i], score[i], kind[i] = result.twin[i], result.score[i], method.kind
    for i in np.flatnonzero(twin >= 0).tolist():
        # an exact repeat of a row that went later repeats that row's twin, equally
        while twin[twin[i]] >= 0:
            via = int(twin[i])
            twin[i], score[i], kind[i] = twin[via], score[via], kind[via]
    x = np.concatenate([f.clusters.x for f in found.values()])
    y = np.concatenate([f.clusters.y for f in found.values()])
    return Verdicts(entries, twin, score, kind, components(len(entries), x, y), found)


def row(recipe: DedupRecipe, verdicts: Verdicts, i: int) -> dict[str, Any]:
    """The line of dropped.jsonl for one row."""
    entries, twin = verdicts.entries, int(verdicts.twin[i])
    method = next(m for m in recipe.methods if m.kind == verdicts.kind[i])
    stays = "held out" if entries.reason(twin) else f"keep {recipe.keep.by}"
    return {
        "id": entries.ids[i],
        "reason": verdicts.reason(i),
        "twin": entries.ids[twin],
        "score": round(float(verdicts.score[i]), 6),
        "rule": f"{method.rule}; {stays}",
        "line": _short(entries.wheres[i]),
        "twin_line": _short(entries.wheres[twin]),
    }


def _short(where: str) -> str:
    """Without the folder, so that the same rows elsewhere give the same bytes."""
    return where.rpartition("/")[2]


def copy_kept(artifact: Artifact, files: list[Path], kept: NDArray[np.bool_]) -> None:
    """Copy the lines that stay, in their own order."""
    number = 0
    with artifact.path("kept.jsonl").open("wb") as out:
        for path in files:
            for _, line in lines.raw(path):
                if kept[number]:
                    out.write(line)
                number += 1
    artifact.rows["kept.jsonl"] = int(kept.sum())


def copy_splits(recipe: DedupRecipe, artifact: Artifact) -> None:
    """Hand the held-out splits on, unchanged."""
    for path in splits(recipe, artifact):
        artifact.path(path.name).write_bytes(path.read_bytes())


def measure(artifact: Artifact, verdicts: Verdicts, fixed: int) -> None:
    """Counts for the manifest and the summary."""
    gone = np.flatnonzero(verdicts.twin >= 0).tolist()
    reasons = Counter(verdicts.reason(i) for i in gone)
    sizes = np.bincount(verdicts.cluster)
    rows_in = len(verdicts.entries) - fixed
    artifact.dropped.update(reasons)
    artifact.metrics |= {
        "rows": rows_in,
        "kept": rows_in - len(gone),
        "dropped": len(gone),
        "dropped_by_reason": dict(sorted(reasons.items())),
        "held_out_rows": fixed,
        "clusters": int((sizes > 1).sum()),
        "largest_cluster": int(sizes.max()),
    }
    for name, found in verdicts.found.items():
        if found.sweep:
            artifact.metrics[f"{name}_sweep"] = {f"{t:g}": n for t, n in found.sweep.items()}
    told = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())) or "none"
    artifact.summary += [("kept", f"{rows_in - len(gone)} of {rows_in} rows"), ("dropped", told)]
