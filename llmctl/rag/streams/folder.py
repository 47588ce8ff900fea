"""A watched folder: new, changed and deleted files, looked for again and again.

Looking costs one `stat` per file and works on every file system, shared ones too, where
notifications of the kernel do not arrive. The ledger remembers what was seen of each file.
"""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path

from pydantic import Field

from llmctl.errors import InputError
from llmctl.rag.streams.base import Gone, Known, Message, Stream

LANE = "folder:"
GONE = "gone"


class Live:
    """The folder as it was at the last look."""

    def __init__(self, stream: FolderStream, seen: dict[str, str]) -> None:
        self.stream, self.seen = stream, seen
        self.before: dict[str, str] = {}
        self.ready: list[tuple[str, str]] = []
        self.next_look = 0.0

    def receive(self, limit: int, seconds: float) -> list[Message]:
        """Files that differ from what was seen and did not change between two looks."""
        until = time.monotonic() + seconds
        while not self.ready:
            now = time.monotonic()
            if now >= self.next_look:
                self._look()
                continue
            if now >= until:
                return []
            time.sleep(min(self.next_look, until) - now)
        taken, self.ready = self.ready[:limit], self.ready[limit:]
        return [self._message(uri, mark) for uri, mark in taken]

    def _look(self) -> None:
        started = time.monotonic()
        now = dict(self._files())
        steady = ((uri, m) for uri, m in now.items() if self.before.get(uri) == m)
        self.ready = sorted((uri, m) for uri, m in steady if self.seen.get(uri) != m)
        lost = [u for u, m in self.seen.items() if m != GONE and u not in now]
        # a file that is replaced by delete and create has one look's time to come back
        self.ready += [(uri, GONE) for uri in sorted(lost) if uri not in self.before]
        self.before = now
        took = time.monotonic() - started
        # at most a tenth of the time is spent on looking
        self.next_look = time.monotonic() + max(self.stream.interval, 10 * took)

    def check(self) -> None:
        """The folder has to be there: when it is gone, its files are not deleted."""
        if not self.stream.root.is_dir():
            raise Gone(f"{self.stream.root} is not there")

    def _files(self) -> Iterator[tuple[str, str]]:
        """(name, size, time and number of the file) of everything that is not hidden."""
        root = str(self.stream.root)
        self.check()
        for folder, folders, names in os.walk(root, onerror=_unreadable):
            folders[:] = sorted(each for each in folders if not each.startswith("."))
            for name in names:
                if name.startswith(".") or any(fnmatch(name, p) for p in self.stream.ignore):
                    continue
                path = os.path.join(folder, name)
                mark = _mark(path)
                if mark != GONE:
                    yield os.path.relpath(path, root).replace(os.sep, "/"), mark

    def _message(self, uri: str, mark: str) -> Message:
        op = "delete" if mark == GONE else "upsert"
        event = {"op": op, "uri": uri} | ({} if mark == GONE else {"path": uri})
        body = json.dumps(event).encode()
        return Message(body, LANE, mark, uri)

    def still(self, message: Message) -> bool:
        """Whether the file is the one that was found: half of a new one is never kept."""
        return _mark(os.path.join(self.stream.root, message.handle)) == message.position

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """The ledger has them; a file that changed while it was read differs at the next look."""
        self.seen |= {message.handle: message.position for message in messages}

    def lag(self) -> int | None:
        """Files that were found and not given out yet."""
        return len(self.ready)


def _mark(path: str) -> str:
    """Size, time and number of a file; GONE when there is none, or a link to nothing."""
    try:
        found = os.stat(path)
    except OSError:
        return GONE
    if not stat.S_ISREG(found.st_mode):
        return GONE
    return f"{found.st_size}-{found.st_mtime_ns}-{found.st_ino}"


def _unreadable(error: OSError) -> None:
    # a folder that cannot be listed must not look as if all its files had been deleted
    if not isinstance(error, FileNotFoundError):
        raise Gone(f"{error.filename} cannot be listed: {error.strerror}")


class FolderStream(Stream):
    """Files below `root`; hidden ones and those that match `ignore` are not looked at."""

    root: Path = Field(description="The watched folder.")
    interval: float = Field(
        1.0,
        gt=0,
        le=86400,
        description="Seconds between two looks; a file is taken when both find it unchanged.",
    )
    ignore: tuple[str, ...] = Field(
        ("*.tmp", "*.part", "*.partial", "*.crdownload", "*~"),
        description="Names of files that somebody is still writing, as shell patterns.",
    )

    def label(self) -> str:
        """The folder."""
        return f"folder {self.root}"

    @contextmanager
    def open(self, known: Known) -> Iterator[Live]:
        """Begin with what the ledger remembers."""
        # a folder that was there may be on a disk that comes back; one that never was is a mistake
        if not self.root.is_dir() and not known.knows(LANE):
            raise InputError(f"source.stream.root: {self.root} is not a folder; create it first")
        live = Live(self, known.positions(LANE))
        live.check()
        yield live
