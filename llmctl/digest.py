"""sha256 of files and folders, remembered by (path, size, mtime, inode): 10 GB cost a stat."""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event
from typing import Any

SKIPPED = {".git", "__pycache__", ".building", "traces.sqlite-wal", "traces.sqlite-shm"}
BEHIND, READ = 0.01, 1 << 20
"""Seconds between two looks at a file that is being written, and bytes of it read together."""


def cache_folder() -> Path:
    """Where llmctl keeps what it can make again: `$LLMCTL_CACHE` or ~/.cache/llmctl."""
    given = os.environ.get("LLMCTL_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(given) if given else Path(home).expanduser() / "llmctl"


@cache
def _database() -> sqlite3.Connection | None:
    try:
        folder = cache_folder()
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(
            folder / "digests.sqlite", timeout=5, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA journal_mode=WAL")
        # no wait for the disk after every file: a digest that the power took is made again
        connection.execute("PRAGMA synchronous=NORMAL")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS digests (path TEXT PRIMARY KEY, size INTEGER, "
            "mtime_ns INTEGER, inode INTEGER, sha256 TEXT)"
        )
        return connection
    except (OSError, sqlite3.Error):  # a cache that cannot be kept is no reason to stop
        return None


def of_file(path: Path, *, reread: bool = False) -> str:
    """sha256 of a file's bytes; `reread` does not trust the cache."""
    database = _database()
    name, mark = _known_by(path)
    if database is not None and not reread:
        try:
            row = database.execute(
                "SELECT size, mtime_ns, inode, sha256 FROM digests WHERE path = ?", (name,)
            ).fetchone()
        except sqlite3.Error:
            row = None
        if row is not None and tuple(row[:3]) == mark:
            return str(row[3])
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    _remember(name, mark, found)
    return found


def while_written(path: Path, ended: Event) -> None:
    """Hash a file that another thread writes to the end, so that `of_file` knows it at once."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        last = False
        while not last:
            last = ended.wait(BEHIND)  # asked before it is read: nothing comes after that
            while data := file.read(READ):
                found.update(data)
                size += len(data)
    name, mark = _known_by(path)
    if mark[0] == size:
        _remember(name, mark, found.hexdigest())


def _known_by(path: Path) -> tuple[str, tuple[int, int, int]]:
    """What a digest is remembered by."""
    stat = path.stat()
    name = os.path.abspath(path).encode("utf-8", "backslashreplace").decode()
    return name, (stat.st_size, stat.st_mtime_ns, stat.st_ino)


def _remember(name: str, mark: tuple[int, int, int], found: str) -> None:
    if (database := _database()) is not None:
        with suppress(sqlite3.Error):
            database.execute(
                "INSERT OR REPLACE INTO digests VALUES (?, ?, ?, ?, ?)", (name, *mark, found)
            )


def files_of(folder: Path) -> Iterator[Path]:
    """Every file below a folder, in a fixed order; version control and caches are left out."""
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not SKIPPED.intersection(path.relative_to(folder).parts):
            yield path


def of_listing(entries: dict[str, str]) -> str:
    """sha256 of a sorted `name NUL sha256` listing."""
    lines = "".join(f"{name}\0{sha}\n" for name, sha in sorted(entries.items()))
    return hashlib.sha256(lines.encode("utf-8", "surrogateescape")).hexdigest()


def of_path(path: Path, *, reread: bool = False) -> str:
    """sha256 of a file, or of the listing of a folder.

    A file of a folder that may not be read is listed as such: who needs it says so.
    """
    if path.is_file():
        return of_file(path, reread=reread)
    listed = {}
    for file in files_of(path):
        try:
            listed[file.relative_to(path).as_posix()] = of_file(file, reread=reread)
        except PermissionError:
            listed[file.relative_to(path).as_posix()] = "unreadable"
    return of_listing(listed)


def of_json(value: Any) -> str:
    """sha256 of the canonical JSON of a value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
