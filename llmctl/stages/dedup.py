"""Rows without repeats: `kept.jsonl` byte for byte, `dropped.jsonl` with each row's kept twin."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

import numpy as np

from llmctl import artifact as artifacts
from llmctl import digest, shards, ui
from llmctl import rows as row_files
from llmctl.data import blocks, index, lines, scan
from llmctl.data.dedupers.base import Cut, Signed
from llmctl.data.entries import Batch, Entries, Entry, collected, preference, short
from llmctl.data.kernels import Ids, kernel
from llmctl.data.threads import mapped
from llmctl.data.verdicts import Verdicts, judge, threads_of
from llmctl.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from llmctl.artifact import Artifact
    from llmctl.schema.dedup import DedupRecipe

HELD_OUT = ("validation", "test")
COLLECTED, REUSED = 10_000, 31 << 20
"""New objects between two searches for garbage, and bytes of freed memory that is used again."""
AT_ONCE = 1 << 14
"""Dropped rows whose names are looked up together."""
BASE_MB, PER_BYTE = 120, 4
"""Memory of a run without rows, in MB, and bytes for each byte of rows."""


def run(recipe: DedupRecipe, artifact: Artifact) -> None:
    """Write kept.jsonl, dropped.jsonl, report.html, and the held-out splits unchanged."""
    warm_up()
    files = [path for key in recipe.files() for path in rows_at(artifact.input(key))]
    spill = spill_folder(recipe, artifact, files)
    kinds = reading(recipe)
    each = chain(references(recipe, artifact), entries_of(recipe, files))
    with ui.progress("read") as advance:
        entries, rank = collected(counted(each, advance), kinds, spill)
    fixed = entries.fixed
    signed = tuple(signatures(recipe, artifact, entries))
    if len(entries) == fixed:
        raise InputError(f"{files[0]}: has no rows")
    for kind in kinds:
        if not any(entries.values[kind]):
            ui.warn(f"no row has the fields that `{kind}` compares: it drops nothing")
    if empty := entries.texts.empty(fixed):
        artifact.metrics["without_text"] = empty
        ui.warn(f"rows without text: {empty}; exact takes them for repeats, minhash for nothing")
    by_rank = None
    if rank is not None:
        by_rank = np.lexsort((rank[fixed:, 1], rank[fixed:, 0])) + fixed
        entries = entries.ordered(np.concatenate([np.arange(fixed), by_rank]))
    ui.note(f"comparing {len(entries) - fixed} rows, {fixed} held-out rows")
    verdicts = judge(recipe, entries, fixed, artifact, spill, signed)
    place = np.arange(fixed, len(entries))  # number of a row -> its place by preference
    if by_rank is not None:
        place[by_rank - fixed] = np.arange(fixed, len(entries))
    measure(artifact, verdicts, fixed)
    kept, ended = artifact.path("kept.jsonl"), Event()

    def copied() -> None:
        try:
            copy_kept(recipe, artifact, files, verdicts, place)
        finally:
            ended.set()

    told = partial(tell, recipe, artifact, verdicts, place, fixed)
    writers: list[Callable[[], None]] = [copied, told]
    threads = threads_of(recipe) if spill is None else 1  # side by side they need more memory
    if threads > 1:
        kept.write_bytes(b"")  # what a killed run left is not hashed
        writers.append(partial(digest.while_written, kept, ended))
    mapped(lambda write: write(), writers, threads)
    if recipe.index:
        index.write(recipe, artifact, verdicts, place)
    copy_splits(recipe, artifact)


def warm_up() -> None:
    """Settings of the process that save a tenth of its time: its pieces of work are many and alike.

    Loading the compiler makes 200,000 objects that stay and need not be looked at again and again.
    Once a block is freed, glibc keeps smaller ones for reuse: no fresh pages for each piece.
    """
    gc.set_threshold(COLLECTED)
    np.empty(REUSED, np.uint8)


def rows_at(path: Path) -> list[Path]:
    """The files of rows that a key names, or the folder of texts that it is."""
    plain = path.is_dir() and artifacts.read_manifest(path) is None
    texts = plain and any(file.suffix in lines.TEXTS for file in digest.files_of(path))
    if texts and not shards.of_split(path, "train"):  # a data set of the Hub has a card, a text
        return [path]
    found = shards.find(path)
    shards.tell_part(found)
    return found


def spill_folder(recipe: DedupRecipe, artifact: Artifact, files: list[Path]) -> Path | None:
    """Where to work when the rows do not fit into the memory that the recipe allows."""
    if fits(recipe, sum(map(_size, files))):
        return None
    ui.note("the rows do not fit into `memory_mb`: working from files")
    folder = artifact.scratch / "spill"
    folder.mkdir(exist_ok=True)
    return folder


def fits(recipe: DedupRecipe, size: int) -> bool:
    """Whether `size` bytes of rows can be worked on in memory."""
    return BASE_MB + PER_BYTE * size / 2**20 <= recipe.memory_mb


def _size(path: Path) -> int:
    """Bytes of the rows; packed files hold several times their own size."""
    files = digest.files_of(path) if path.is_dir() else [path]
    return sum(f.stat().st_size * (5 if f.suffix in (".gz", ".parquet") else 1) for f in files)


def reading(recipe: DedupRecipe) -> list[str]:
    """Kinds of the methods that compare something beside the text."""
    return [each.kind for each in recipe.methods if each.value({}, "") is not None]


def counted(
    each: Iterable[Entry | Batch], advance: Callable[[int], object]
) -> Iterator[Entry | Batch]:
    """The same rows, told to a progress bar."""
    tell = ui.in_steps(advance)
    for part in each:
        yield part
        tell(len(part.lines) if isinstance(part, Batch) else 1)


def values(recipe: DedupRecipe, each: dict[str, Any], where: str) -> tuple[str, ...]:
    """What those methods compare of a row."""
    found = (method.value(each, where) for method in recipe.methods)
    return tuple(value for value in found if value is not None)


def entries_of(recipe: DedupRecipe, files: list[Path]) -> Iterator[Entry | Batch]:
    """The rows to deduplicate, in their own order."""
    reads, ranked = bool(reading(recipe)), recipe.keep.by != "first" or bool(recipe.keep.prefer)
    cut = (recipe.text or ["text"])[0] if recipe.cuts else None
    fields, keep = recipe.text, recipe.keep
    use, needs_rows = kernel(recipe.kernel), reads or ranked or cut is not None
    for path in files:
        if not needs_rows and scan.able(path, fields, use):
            yield from scan.batches(path, fields, threads_of(recipe))
            continue
        for where, each in lines.parsed(path):
            text = lines.text_of(each, fields, where)
            if cut is not None and not isinstance(each.get(cut), str):
                raise InputError(
                    f"{where}: passages are cut out of text, `{cut}` is none; "
                    "name the field in `text`, or set the method's `action: drop`"
                )
            rank = preference(keep, each, text, path, where) if ranked else (0.0, 0.0)
            found = values(recipe, each, where) if reads else ()
            yield Entry(str(each.get("id", short(where))), text, where, None, rank, found)


def references(recipe: DedupRecipe, artifact: Artifact) -> Iterator[Entry | Batch]:
    """Rows that may not occur in the data: the held-out splits, and the files of `against`."""
    files = [(path, "leak") for path in splits(recipe, artifact)] if recipe.leaks else []
    files += [(artifact.input(f"against.{i}"), "against") for i in range(len(recipe.against))]
    for folder, reason in files:
        if indexed(recipe, folder):
            yield from index.entries(folder, reason)
            continue
        for path in shards.find(folder):
            if not reading(recipe) and scan.able(path, recipe.text, kernel(recipe.kernel)):
                yield from scan.batches(path, recipe.text, threads_of(recipe), reason)
                continue
            for where, each in lines.parsed(path):
                text = lines.text_of(each, recipe.text, where)
                name = str(each.get("id", short(where)))
                yield Entry(name, text, where, reason, values=values(recipe, each, where))


def indexed(recipe: DedupRecipe, folder: Path) -> bool:
    """Whether an earlier run's index stands in for its rows; methods that read fields need rows."""
    return not reading(recipe) and index.there(folder, recipe)


def signatures(recipe: DedupRecipe, artifact: Artifact, entries: Entries) -> Iterator[Signed]:
    """The signatures that earlier runs left of the rows to compare with."""
    last = entries.fixed
    for i in reversed(range(len(recipe.against))):  # they stand behind the held-out splits
        folder = artifact.input(f"against.{i}")
        if not indexed(recipe, folder):
            return
        last -= index.rows(folder)
        found = index.signed(folder, last)
        if found is not None:
            yield found


def splits(recipe: DedupRecipe, artifact: Artifact) -> list[Path]:
    """The held-out files beside the train split of an artifact."""
    folders = [artifact.input(key) for key in recipe.files()]
    return [path for each in folders for split in HELD_OUT for path in shards.of_split(each, split)]


def dropped(recipe: DedupRecipe, verdicts: Verdicts, rows: Ids) -> Iterator[dict[str, Any]]:
    """The lines of dropped.jsonl for some rows."""
    entries, names = verdicts.entries, {method.kind: method.rule for method in recipe.methods}
    rules = [names[kind] for kind in verdicts.kinds]
    for at in range(0, len(rows), AT_ONCE):
        part = rows[at : at + AT_ONCE]
        twins = verdicts.twin[part]
        columns = zip(
            entries.ids.some(part),
            entries.ids.some(twins),
            verdicts.score[part].tolist(),
            verdicts.kind[part].tolist(),
            map(entries.reason_name, entries.reasons(twins).tolist()),
            entries.wheres.some(part),
            entries.wheres.some(twins),
            strict=True,
        )
        for name, its_name, score, kind, held_out, where, its_where in columns:
            stays = "held out" if held_out else f"keep {recipe.keep.by}"
            yield {
                "id": name,
                "reason": held_out or verdicts.kinds[kind],
                "twin": its_name,
                "score": round(score, 6),
                "rule": f"{rules[kind]}; {stays}",
                "line": short(where),
                "twin_line": short(its_where),
            }


def tell(
    recipe: DedupRecipe,
    artifact: Artifact,
    verdicts: Verdicts,
    place: NDArray[np.int64],
    fixed: int,
) -> None:
    """Write what was dropped and flagged, and the report."""
    leaks, repeats = verdicts.leaks, dropped(recipe, verdicts, place[verdicts.twin[place] >= 0])
    artifact.write_jsonl(
        "dropped.jsonl", chain(leaks.rows(verdicts.entries, dropped=True), repeats)
    )
    if recipe.decontaminate is not None:
        artifact.write_jsonl("flagged.jsonl", leaks.rows(verdicts.entries, dropped=False))
        artifact.write_json("contamination.json", leaks.table())
    from llmctl.data.dedup_report import write

    write(recipe, artifact, verdicts, fixed)


def copy_kept(
    recipe: DedupRecipe,
    artifact: Artifact,
    files: list[Path],
    verdicts: Verdicts,
    place: NDArray[np.int64],
) -> None:
    """Copy the lines that stay, in their own order; only rows that were cut are written anew."""
    stays, cuts = ~verdicts.gone[place], verdicts.cuts
    cut_rows = {n: cuts[i] for n, i in enumerate(place.tolist()) if i in cuts} if cuts else {}
    number, told = 0, []
    progress = ui.progress("copy", len(stays))
    with artifact.path("kept.jsonl").open("wb") as out, progress as advance:
        tell = ui.in_steps(advance)
        for path in files:
            if not cuts and blocks.has_lines(path):
                for data in blocks.whole_lines(path):
                    begins, ends = blocks.spans(data)
                    part = stays[number : number + len(begins)]
                    out.write(b"".join(blocks.kept(data, begins, ends, part)))
                    number += len(begins)
                    tell(len(begins))
                continue
            for line_number, line in lines.raw(path):
                if stays[number]:
                    spans = cut_rows.get(number)
                    if spans:
                        where = f"{path}:{line_number}"
                        line, shown = without(recipe, line, spans, where)
                        told += [
                            {"line": short(where), **each, "twin": verdicts.entries.ids[span.twin]}
                            for each, span in zip(shown, spans, strict=True)
                        ]
                    out.write(line)
                number += 1
                tell(1)
    artifact.rows["kept.jsonl"] = int(stays.sum())
    if recipe.cuts:
        artifact.write_jsonl("cuts.jsonl", told)
        artifact.metrics["passages_cut"] = len(told)


def without(
    recipe: DedupRecipe, line: bytes, spans: list[Cut], where: str
) -> tuple[bytes, list[dict[str, Any]]]:
    """The row without some bytes of its text, and what was taken out, in characters."""
    row = lines.row_of(line, where)
    [name] = recipe.text or ["text"]
    text = row[name].encode("utf-8", "surrogatepass")
    shown, parts, at = [], [], 0
    for begin, end, _ in spans:
        first = len(text[:begin].decode("utf-8", "surrogatepass"))
        passage = text[begin:end].decode("utf-8", "surrogatepass")
        shown.append({"start": first, "end": first + len(passage), "text": passage})
        parts.append(text[at:begin])
        at = end
    row[name] = b"".join([*parts, text[at:]]).decode("utf-8", "surrogatepass")
    return row_files.dumps(row).encode("utf-8", "surrogatepass") + b"\n", shown


def copy_splits(recipe: DedupRecipe, artifact: Artifact) -> None:
    """Hand the held-out splits on: unchanged, and those of several folders as one file."""
    folders = [artifact.input(key) for key in recipe.files()]
    for split in HELD_OUT:
        found = [files for each in folders if (files := shards.of_split(each, split))]
        if len(found) == 1:
            for path in found[0]:
                artifact.path(path.name).write_bytes(path.read_bytes())
        elif found:
            with artifact.path(f"{split}.jsonl").open("wb") as out:
                for path in chain.from_iterable(found):
                    out.writelines(line for _, line in lines.raw(path))


def measure(artifact: Artifact, verdicts: Verdicts, fixed: int) -> None:
    """Counts for the manifest and the summary."""
    reasons = verdicts.reasons()
    gone = sum(reasons.values())
    sizes = np.bincount(verdicts.cluster)
    rows_in = len(verdicts.entries) - fixed
    artifact.dropped.update(reasons)
    artifact.metrics |= {
        "rows": rows_in,
        "kept": rows_in - gone,
        "dropped": gone,
        "dropped_by_reason": dict(sorted(reasons.items())),
        "held_out_rows": fixed,
        "clusters": int((sizes > 1).sum()),
        "largest_cluster": int(sizes.max()),
    }
    for name, found in verdicts.found.items():
        if found.sweep:
            artifact.metrics[f"{name}_sweep"] = {f"{t:g}": n for t, n in found.sweep.items()}
    swept = {f"{t:g}": n for each in verdicts.found.values() for t, n in sorted(each.sweep.items())}
    told = ", ".join(f"{n} {reason}" for reason, n in sorted(reasons.items())) or "none"
    artifact.summary += [("kept", f"{rows_in - gone} of {rows_in} rows"), ("dropped", told)]
    if swept:
        counts = ", ".join(f"{n} at {threshold}" for threshold, n in swept.items())
        artifact.summary.append(("minhash would drop", counts))
