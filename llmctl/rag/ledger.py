"""The ledger: what a stream has delivered, in one SQLite file that a `kill -9` leaves whole.

A batch of messages enters in one transaction that is on the disk when it returns; only then is
the batch acknowledged. So a message that comes again finds what it did before: its position is
known, or its content is the same.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from llmctl.errors import InputError
from llmctl.rag.events import Event, Part
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.streams.base import Message

FILE, DEAD = "ledger.sqlite", "dead_letters.jsonl"
COUNTED = ("received", "upserts", "deletes", "unchanged", "late", "dead")
TABLES = """
CREATE TABLE IF NOT EXISTS seen (uri TEXT PRIMARY KEY, lane TEXT, position TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS lanes (lane TEXT PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
  part TEXT PRIMARY KEY, uri TEXT NOT NULL, digest TEXT NOT NULL, row TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_uri ON documents (uri);
CREATE TABLE IF NOT EXISTS dead (
  id TEXT PRIMARY KEY, uri TEXT, reason TEXT, detail TEXT, lane TEXT, position TEXT, time TEXT,
  body BLOB, settled INTEGER NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS dead_by_uri ON dead (uri);
CREATE TABLE IF NOT EXISTS counts (name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """A message as it was understood: an event with its documents, or an error."""

    message: Message
    event: Event | None = None
    parts: Sequence[Part] = field(default_factory=list)
    error: Unreadable | None = None


class Ledger:
    """The open file; `revision` grows with every change of what a snapshot would hold."""

    def __init__(self, folder: Path, *, write: bool = False) -> None:
        self.folder = folder
        self.lock: IO[str] | None = None
        try:
            if write:
                folder.mkdir(parents=True, exist_ok=True)
            path = folder / FILE
            name = f"file:{_quoted(path)}{'' if write else '?mode=ro'}"
            self.database = sqlite3.connect(name, uri=True, timeout=30, isolation_level=None)
            if write:
                self._lock()
                self.database.execute("PRAGMA journal_mode=WAL")
                self.database.execute("PRAGMA synchronous=FULL")  # a commit is on the disk
                self.database.executescript(TABLES)
        except (OSError, sqlite3.Error) as error:
            raise InputError(f"source.ledger: {folder} cannot be used: {error}") from None

    def _lock(self) -> None:
        """One process writes: a second one would acknowledge what the first has not kept."""
        self.lock = (self.folder / "lock").open("a")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.lock.close()
            raise InputError(
                f"source.ledger: another process follows into {self.folder}; "
                "give each stream a ledger of its own"
            ) from None

    def close(self) -> None:
        """Close the file."""
        self.database.close()
        if self.lock is not None:
            self.lock.close()

    @property
    def revision(self) -> int:
        """The number of the last change."""
        return self.count("revision")

    def count(self, name: str) -> int:
        """One of COUNTED."""
        row = self.database.execute("SELECT value FROM counts WHERE name = ?", (name,)).fetchone()
        return int(row[0]) if row else 0

    def documents(self) -> int:
        """How many documents there are now."""
        return int(self.database.execute("SELECT count(*) FROM documents").fetchone()[0])

    def positions(self, lane: str) -> dict[str, str]:
        """uri -> position of the last event of each document that came by a lane."""
        rows = self.database.execute("SELECT uri, position FROM seen WHERE lane = ?", (lane,))
        return dict(rows)

    def begin(self, lane: str) -> None:
        """Remember a lane before anything comes by it."""
        self.database.execute("INSERT OR IGNORE INTO lanes VALUES (?)", (lane,))

    def knows(self, lane: str) -> bool:
        """Whether anything came by a lane, or it was begun."""
        found = self.database.execute("SELECT 1 FROM lanes WHERE lane = ?", (lane,))
        return found.fetchone() is not None

    def rows(self) -> Iterator[tuple[str, str, str]]:
        """(uri, digest, row) of every document, in the order of the uris."""
        yield from self.database.execute("SELECT part, digest, row FROM documents ORDER BY part")

    def dead(self) -> Iterator[tuple[str, str, str]]:
        """(uri or number, reason, detail) of the dead letters that no later event settled."""
        yield from self.database.execute(
            "SELECT coalesce(uri, 'message ' || id), reason, detail FROM dead "
            "WHERE NOT settled ORDER BY 1, id"
        )

    def apply(self, entries: Sequence[Entry], *, ordered: bool) -> int:
        """Enter a batch in one transaction; returns how many documents it changed.

        `ordered` streams have comparable positions: an event that is not later than the last one
        of the same document and lane has been applied, or was overtaken, and changes nothing.
        """
        changed = 0
        with self._transaction():
            counts = dict.fromkeys(COUNTED, 0)
            for lane in {entry.message.lane for entry in entries}:
                self.begin(lane)
            for entry in entries:
                what, documents = self._enter(entry, ordered)
                counts["received"] += 1
                counts[what] += 1
                changed += documents
            revised = changed + counts["dead"]
            for name, value in {**counts, "revision": revised}.items():
                self.database.execute(
                    "INSERT INTO counts VALUES (?, ?) "
                    "ON CONFLICT (name) DO UPDATE SET value = value + excluded.value",
                    (name, value),
                )
        return changed

    def _enter(self, entry: Entry, ordered: bool) -> tuple[str, int]:
        message, event = entry.message, entry.event
        if event is not None and not self._is_news(event.uri, message, ordered):
            return "late", 0
        if event is not None:
            self.database.execute(
                "INSERT OR REPLACE INTO seen VALUES (?, ?, ?)",
                (event.uri, message.lane, message.position),
            )
        buried = self._bury(entry) if entry.error is not None or event is None else ""
        if event is None or (buried and not entry.parts):
            return buried, 0
        if not buried:  # the document is well again, or gone
            self.database.execute("UPDATE dead SET settled = 1 WHERE uri = ?", (event.uri,))
        before = dict(
            self.database.execute("SELECT part, digest FROM documents WHERE uri = ?", (event.uri,))
        )
        now = {part.uri: part for part in entry.parts}
        gone = [uri for uri in before if uri not in now]
        new = [part for uri, part in now.items() if before.get(uri) != part.digest]
        self.database.executemany("DELETE FROM documents WHERE part = ?", ((u,) for u in gone))
        self.database.executemany(
            "INSERT OR REPLACE INTO documents VALUES (?, ?, ?, ?)",
            ((part.uri, event.uri, part.digest, part.row) for part in new),
        )
        what = buried or ("deletes" if event.op == "delete" else "upserts")
        return (what if gone or new else "unchanged"), len(gone) + len(new)

    def _is_news(self, uri: str, message: Message, ordered: bool) -> bool:
        if not ordered or not message.position:
            return True
        row = self.database.execute(
            "SELECT lane, position FROM seen WHERE uri = ?", (uri,)
        ).fetchone()
        return row is None or row[0] != message.lane or row[1] < message.position

    def _bury(self, entry: Entry) -> str:
        message, error = entry.message, entry.error or Unreadable("bad_event", "")
        uri = entry.event.uri if entry.event else None
        mark = message.position.encode() or message.body
        number = hashlib.sha256(b"\0".join([message.lane.encode(), (uri or "").encode(), mark]))
        row = (
            number.hexdigest()[:16], uri, error.reason, error.detail, message.lane,
            message.position, datetime.now(UTC).isoformat(timespec="seconds"), message.body,
        )  # fmt: skip
        found = self.database.execute("INSERT OR IGNORE INTO dead VALUES (?,?,?,?,?,?,?,?,0)", row)
        return "dead" if found.rowcount else "late"

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self.database.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self.database.execute("ROLLBACK")
            raise
        self.database.execute("COMMIT")

    def export_dead(self) -> int:
        """Write dead_letters.jsonl beside the ledger, whole or not at all; returns the rows."""
        found = self.database.execute(
            "SELECT id, uri, reason, detail, lane, position, time, body FROM dead ORDER BY time, id"
        )
        partial, rows = self.folder / (DEAD + ".partial"), 0
        with partial.open("w", encoding="utf-8") as file:
            for number, uri, reason, detail, lane, position, when, body in found:
                row = {
                    "id": number, "uri": uri, "reason": reason, "detail": detail, "lane": lane,
                    "position": position, "time": when, **_body(bytes(body)),
                }  # fmt: skip
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                rows += 1
            file.flush()
            os.fsync(file.fileno())
        partial.replace(self.folder / DEAD)
        return rows


def _body(body: bytes) -> dict[str, Any]:
    try:
        return {"body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {"body_base64": base64.b64encode(body).decode("ascii")}


def _quoted(path: Path) -> str:
    from urllib.parse import quote

    return quote(os.path.abspath(path))
