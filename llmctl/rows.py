"""Rows in and out, one at a time: JSONL, JSON, CSV (also .gz), Parquet; errors name the line."""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from llmctl import tables
from llmctl.errors import InputError, MissingError, install_hint

_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
FORMATS = (".jsonl", ".jsonl.gz", ".parquet")
"""What artifacts hold."""
READ = (".jsonl", ".ndjson", ".json", ".csv", ".tsv")
"""What is read besides Parquet, each also with `.gz` behind it."""


JSON_MARK = "llmctl"
"""Key in the metadata of a Parquet column whose texts are JSON."""


def read(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a file; raises InputError at the first line that is not one."""
    return (row for _, row in numbered(path))


def numbered(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line where it begins, row) of every row of a file; of Parquet, the row's number."""
    if path.is_dir():
        raise InputError(f"{path}: is a folder, a file of rows is needed ({', '.join(FORMATS)})")
    if not path.exists():
        raise InputError(f"{path}: no such file")
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if path.suffix == ".parquet":
        yield from enumerate(_read_parquet(path), 1)
    elif suffix in (".jsonl", ".ndjson"):
        yield from _read_jsonl(path)
    elif suffix == ".json":
        yield from tables.read_array(path, _text(path))
    elif suffix in (".csv", ".tsv"):
        yield from tables.read_csv(path, _text(path), "\t" if suffix == ".tsv" else None)
    else:
        known = ", ".join((*READ, ".parquet"))
        raise InputError(f"{path}: rows are read from {known}, not '{path.suffix}'")


def are_in(path: Path) -> bool:
    """Whether a file's name says that it holds rows; every other one is read as a text."""
    return Path(path.name.removesuffix(".gz")).suffix in (*READ, ".parquet")


def placed(files: Iterable[Path]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(file:line, row) of every row of some files, one file after the other."""
    return ((f"{path}:{line}", row) for path in files for line, row in numbered(path))


def count(path: Path) -> int:
    """How many rows a file has, without reading what they hold where that is possible."""
    if path.suffix == ".parquet":
        with _parquet(path) as file:
            return int(file.metadata.num_rows)
    if Path(path.name.removesuffix(".gz")).suffix in (".jsonl", ".ndjson"):
        return sum(1 for _ in lines(path))
    return sum(1 for _ in numbered(path))


def _text(path: Path) -> str:
    """The text of a whole file that may be compressed."""
    data = b"".join(line for _, line in lines(path, blank=True))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text") from None


def lines(path: Path, *, blank: bool = False) -> Iterator[tuple[int, bytes]]:
    """(line number, line) of a file that may be compressed; blank lines only when asked for."""
    with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
        try:
            for number, line in enumerate(file, 1):
                if blank or not line.isspace():
                    yield number, line
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise InputError(f"{path}: not a whole gzip file: {error}") from None


def _read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in lines(path):
        try:
            row = json.loads(line)
        except UnicodeDecodeError:
            raise InputError(f"{path}:{number}: not UTF-8 text") from None
        except (ValueError, RecursionError) as error:
            fault = tables.json_fault(error)
            raise InputError(f"{path}:{number}: not valid JSON: {fault}") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}:{number}: is a {type(row).__name__}, a row is an object")
        if b"\\ud" in line or b"\\uD" in line:
            try:
                dumps(row).encode()
            except UnicodeEncodeError:
                raise InputError(f"{path}:{number}: has half a surrogate pair, no text") from None
        yield number, row


def _read_parquet(path: Path) -> Iterator[dict[str, Any]]:
    with _parquet(path) as file:
        marked = [f.name for f in file.schema_arrow if JSON_MARK.encode() in (f.metadata or {})]
        for batch in file.iter_batches():
            for row in batch.to_pylist():
                yield row if not marked else _unpacked(row, marked)


@contextmanager
def _parquet(path: Path) -> Iterator[Any]:
    """An open file; whatever is wrong with it, then or while it is read, is an InputError."""
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise MissingError(
            f"{path}: reading Parquet needs pyarrow: {install_hint('parquet')}"
        ) from None
    try:
        with ParquetFile(path) as file:
            yield file
    except (ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's; Arrow tells of damaged pages by one without a number
        raise InputError(
            f"{path}: not a whole Parquet file: {str(error).splitlines()[0]}"
        ) from None


def _unpacked(row: dict[str, Any], marked: list[str]) -> dict[str, Any]:
    """A row of an export: what was written as JSON is a value again, nulls are left out."""
    found = {key: value for key, value in row.items() if value is not None}
    return found | {key: json.loads(found[key]) for key in marked if key in found}


def dumps(row: Mapping[str, Any]) -> str:
    """One row as compact JSON, keys in their own order."""
    return _ENCODER.encode(row)


def finite(value: Any) -> Any:
    """The same with null for what is no number: JSON has neither infinity nor NaN (RFC 8259, 6)."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return value


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows; returns how many."""
    count = 0
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for row in rows:
            file.write(dumps(row) + "\n")
            count += 1
    return count


def finished(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of JSONL that a killed run wrote; a last line that was cut is removed."""
    if not path.exists():
        return
    text = path.read_bytes()
    whole = text[: text.rfind(b"\n") + 1]
    if whole != text:
        path.write_bytes(whole)
    yield from map(json.loads, whole.splitlines())
