"""Rows in and out, one at a time: JSONL (also .gz) and Parquet; errors name file and line."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from llmctl.errors import InputError, MissingError, install_hint

FORMATS = (".jsonl", ".jsonl.gz", ".parquet")


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file; raises InputError at the first line that is not one."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, a file of rows is needed ({', '.join(FORMATS)})")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    if path.suffix == ".parquet":
        yield from _read_parquet(path)
    elif path.name.endswith((".jsonl", ".jsonl.gz", ".ndjson")):
        yield from _read_jsonl(path)
    else:
        raise InputError(f"{path}: rows are read from {', '.join(FORMATS)}, not '{path.suffix}'")


def lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """(line number, line) of a file that may be compressed; blank lines are left out."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.isspace():
                    yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file: {error}") from None


def _read_jsonl(path: Path) -> Iterator[dict[str, Any]]:
    for number, line in lines(path):
        try:
            row = json.loads(line)
        except UnicodeDecodeError:
            raise InputError(f"{path}:{number}: not UTF-8 text") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not valid JSON: {error}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: is a {type(row).__name__}, a row is an object")
        if b"\\ud" in line or b"\\uD" in line:
            try:
                dumps(row).encode()
            except UnicodeEncodeError:
                raise InputError(f"{path}:{number}: has half a surrogate pair, no text") from None
        yield row


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    try:
        from pyarrow import ArrowInvalid
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingError(
            f"{path}: reading Parquet needs pyarrow: {install_hint('parquet')}"
        ) from None
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except ArrowInvalid as error:
        raise InputError(f"{path}: not a Parquet file: {str(error).splitlines()[0]}") from None


def find(ref: Path | str, split: str = "train") -> Path:
    """The file of a split: `ref` itself, or what an artifact folder has for it."""
    ref = Path(ref)
    if ref.is_file():
        return ref
    names = [f"{split}{suffix}" for suffix in FORMATS]
    if split == "train":
        names += [f"kept{suffix}" for suffix in FORMATS]
    for name in names:
        if (ref / name).is_file():
            return ref / name
    if not ref.exists():
        raise InputError(f"{ref}: no such file or folder")
    raise InputError(f"{ref}: has no {split} split ({', '.join(names[:1] + names[3:4])})")


def dumps(row: Mapping[str, Any]) -> str:
    """One row as compact JSON, keys in their own order."""
    return json.dumps(row, ensure_ascii=False, separators=(",", ":"))


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(dumps(row) + "\n")
            count += 1
    return count
