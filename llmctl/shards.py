"""Which files are one set of rows, in the order in which they are read.

    rows.jsonl                                 itself
    FOLDER with train.jsonl                    the split of an artifact
    FOLDER with train-00000-of-00003.parquet   all shards of the split, as the Hub names them, here
                                               or in FOLDER/data
    FOLDER/*.jsonl                             a pattern: all files that match

A set whose names say how many shards it has is read whole or refused.
"""

from __future__ import annotations

import glob
import re
from collections import defaultdict
from collections.abc import Iterable, Sequence
from fnmatch import fnmatch
from pathlib import Path

from llmctl import digest, ui
from llmctl.errors import InputError
from llmctl.rows import FORMATS, are_in

SPLITS = ("train", "validation", "test")
SHARD = re.compile(
    r"(?P<stem>.+?)(?P<joint>[-.])(?P<number>\d+)-of-(?P<count>\d+)(?:-[0-9a-f]+)?"
    r"(?P<suffix>\.parquet|\.(?:jsonl|ndjson|json|csv|tsv)(?:\.gz)?)"
)
"""`train-00000-of-00003.parquet`; once the Hub wrote a part of the digest behind the count."""


def find(ref: Path | str, split: str = "train") -> list[Path]:
    """The files of a split: `ref` itself, all that it matches, or what a folder has for it."""
    ref = Path(ref)
    if ref.is_file():
        return [ref]
    if is_pattern(ref):
        return matched(ref)
    if not ref.exists():
        raise InputError(f"{ref}: no such file or folder")
    if not ref.is_dir():
        raise InputError(f"{ref}: is a pipe or a device, rows are read from files")
    names = [split, "kept"] if split == "train" else [split]
    for name in names:
        if found := of_split(ref, name):
            return found
    wanted = ", ".join([*(f"{name}.jsonl" for name in names), f"{split}-00000-of-….parquet"])
    others = sorted(path.name for path in ref.iterdir() if path.name.endswith(FORMATS))
    hint = f"; it has {', '.join(others[:5])}: name the file to read" if others else ""
    raise InputError(f"{ref}: has no {split} split ({wanted}){hint}")


def of_split(folder: Path, split: str) -> list[Path]:
    """The file or the shards of a split; empty when the folder has none."""
    for place in (folder, folder / "data"):
        single = [path for suffix in FORMATS if (path := place / f"{split}{suffix}").is_file()]
        shards = [
            path
            for path in place.glob(f"{glob.escape(split)}[-.]*")
            if (named := SHARD.fullmatch(path.name)) and named["stem"] == split
        ]
        if single and shards:
            raise InputError(
                f"{place}: has {single[0].name} and shards such as {min(shards).name}; name the "
                "one that is meant"
            )
        if single or shards:
            return single[:1] or whole(shards)
    return []


def held_out(ref: Path) -> list[Path]:
    """The files of rows to measure with: of a folder its test split, else its validation split."""
    if not ref.is_dir():
        return find(ref)
    if found := held_out_splits(ref):
        return found
    raise InputError(f"{ref}: has neither a test nor a validation split")


def held_out_splits(folder: Path) -> list[Path]:
    """The test split of a folder, else its validation split; empty when it has none."""
    return of_split(folder, "test") or of_split(folder, "validation")


def texts(ref: Path) -> list[Path]:
    """The text files that a path or a pattern names; empty when it names rows or a folder."""
    files = matched(ref) if is_pattern(ref) else [ref] if ref.is_file() else []
    rows = [path for path in files if are_in(path)]
    if rows and len(rows) < len(files):
        raise InputError(f"{ref}: matches rows ({rows[0].name}) and texts; name those of one kind")
    return [] if rows else files


def text_of(path: Path) -> str:
    """The text of a file."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None


def is_pattern(path: Path) -> bool:
    """Whether a path stands for the files that it matches."""
    return glob.has_magic(str(path)) and not path.exists()


def matched(pattern: Path) -> list[Path]:
    """The files that a pattern matches, in their order."""
    found = listed(pattern)
    if not found:
        raise InputError(f"{pattern}: matches no file")
    return together(found, pattern, pattern.name)


def listed(pattern: Path) -> list[Path]:
    """Every file that a pattern matches, whatever it is, in their order."""
    paths = map(Path, glob.iglob(str(pattern), recursive=True))
    return sorted((path for path in paths if path.is_file()), key=_order)


def together(files: Iterable[Path], ref: Path, pattern: str = "*") -> list[Path]:
    """Files as one set, in their order; refuses those of several splits, and parts of a set."""
    ordered = sorted(files, key=_order)
    splits = sorted(set(map(_split_of, ordered)) - {""})
    if len(splits) > 1:
        raise InputError(
            f"{ref}: has files of several splits ({', '.join(splits)}), which are never mixed; "
            f"name those of one, as in {ordered[0].parent / splits[-1]}-*"
        )
    return whole(ordered, pattern)


def _split_of(path: Path) -> str:
    """The split that a file's name tells; nothing when it tells none."""
    shard = SHARD.fullmatch(path.name)
    stem = shard["stem"] if shard else path.name.partition(".")[0]
    last = re.split(r"[-_.]", stem)[-1]
    return last if last in SPLITS else ""


def whole(files: Iterable[Path], pattern: str = "*") -> list[Path]:
    """The files in their order; refuses a set without a shard that `pattern` would match."""
    ordered = sorted(files, key=_order)
    sets: dict[tuple[Path, str], list[re.Match[str]]] = defaultdict(list)
    for path in ordered:
        if shard := SHARD.fullmatch(path.name):
            sets[path.parent, shard["stem"]].append(shard)
    for (folder, _), shards in sets.items():
        _check(folder, shards, pattern)
    return ordered


def _check(folder: Path, shards: Sequence[re.Match[str]], pattern: str) -> None:
    """Refuse shards that are not one set, or not all of it that `pattern` would match."""
    kinds = {(each["count"], each["suffix"]): each[0] for each in shards}
    if len(kinds) > 1:
        one, other = sorted(kinds.values())[:2]
        raise InputError(f"{folder}: {one} and {other} are of two sets; take one away")
    form, count = shards[0], int(shards[0]["count"])
    there = [int(each["number"]) for each in shards]
    if len(there) > min(len(set(there)), count):
        raise InputError(f"{folder}: has shards beside {form[0]} that are there twice; clear it up")
    names = (
        f"{form['stem']}{form['joint']}{number:0{len(form['number'])}}-of-{form['count']}"
        f"{form['suffix']}"
        for number in range(count + 1)
    )
    absent = {n: name for n, name in enumerate(names) if n not in there and fnmatch(name, pattern)}
    ends = [absent.pop(number) for number in (0, count) if number in absent]
    missing = list(absent.values())
    if ends and not {0, count} & set(there):  # some tools count from 1
        missing.append(" or ".join(ends))
    if missing:
        more = f" and {len(missing) - 1} more are" if len(missing) > 1 else " is"
        raise InputError(
            f"{folder}: {missing[0]}{more} missing, {len(there)} of {count} shards are there; "
            "complete the set, or name the files to read in a pattern"
        )


def _order(path: Path) -> tuple[str, str, int, str]:
    shard = SHARD.fullmatch(path.name)
    number = int(shard["number"]) if shard else 0
    return str(path.parent), shard["stem"] if shard else path.name, number, path.name


def part(files: Sequence[Path]) -> str:
    """What to say of files that are asked for as a part of a set; nothing of a whole one."""
    found = [shard for path in files if (shard := SHARD.fullmatch(path.name))]
    told = {(shard["stem"], int(shard["count"])) for shard in found}
    if len(told) != 1 or len(found) == (count := told.pop()[1]):
        return ""
    return f"{len(found)} of {count} shards are read, as was asked"


def tell_part(files: Sequence[Path]) -> None:
    """Warn of files that are a part of a set."""
    if said := part(files):
        ui.warn(f"{name_of(files)}: {said}")


def digest_of(files: Sequence[Path], reread: bool = False) -> str:
    """The digest of a file, or of the listing of several."""
    found = [digest.of_file(path, reread=reread) for path in files]
    if len(files) == 1:
        return found[0]
    # two folders may have files of one name
    names = (f"{number:06d} {path.name}" for number, path in enumerate(files))
    return digest.of_listing(dict(zip(names, found, strict=True)))


def name_of(files: Sequence[Path]) -> str:
    """Files in a word or two."""
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{files[0]}{more}"
