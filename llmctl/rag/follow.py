"""Following a stream: receive, read, keep, acknowledge; and a snapshot from time to time.

    stream -> batch of messages -> events -> documents -> ledger (on the disk) -> acknowledged
                                                             |
                                            snapshot: an ordinary run of ingest

Nothing is received while a batch is worked on, so that memory holds one batch however fast the
messages come.
"""

from __future__ import annotations

import random
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from llmctl import ui
from llmctl.errors import InputError, LlmctlError, MissingError
from llmctl.rag.events import Event, Part, event_of, parts_of
from llmctl.rag.ledger import COUNTED, DEAD, Entry, Ledger
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources.stream import StreamSource
from llmctl.rag.streams.base import Gone, Live, Message
from llmctl.schema.ingest import IngestRecipe

WAIT = 0.25
"""Seconds of waiting for messages before signals, snapshots and idleness are looked at."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the first and between later attempts to reach a server."""
CONTENT = "content"
"""File beside the ledger that holds the content of one message while it is read."""
TELL = 10.0
"""Seconds between two lines of progress."""
SHARE = 4
"""A snapshot waits this many times as long as the last one took: it has a fifth of the time."""


@dataclass
class Stop:
    """Set by a signal: the batch at hand is finished, a snapshot is made, then the run ends."""

    signal: int = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """SIGINT and SIGTERM set it; a second one interrupts at once."""

        def handle(number: int, frame: FrameType | None) -> None:
            if self.signal:
                raise KeyboardInterrupt
            self.signal = number
            ui.note("stopping after this batch and a snapshot; once more to stop at once")

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = [(number, signal.signal(number, handle)) for number in numbers]
        try:
            yield
        finally:
            for number, handler in before:
                signal.signal(number, handler)


@dataclass
class Follower:
    """One run over one stream; `publish` makes a snapshot of the ledger when it has changed."""

    recipe: IngestRecipe
    ledger: Ledger
    publish: Callable[[], None]
    stop: Stop
    received: int = 0
    changed: int = 0
    idle: float = 0.0
    """Seconds spent waiting for a message since the last one; not while the server is away."""
    published: float = field(default_factory=time.monotonic)
    took: float = 0.0
    told: float = field(default_factory=time.monotonic)
    revision: int = -1

    @property
    def source(self) -> StreamSource:
        """The recipe's source."""
        source = self.recipe.source
        assert isinstance(source, StreamSource)
        return source

    def run(self) -> None:
        """Follow until a signal, until it is idle or until enough has come."""
        away_since: float | None = None
        pause = FIRST_PAUSE
        while not self.done():
            try:
                with self.source.stream.open(self.ledger) as live:
                    if away_since is not None:
                        ui.note(f"{self.source.label()}: connected again")
                    away_since, pause = None, FIRST_PAUSE
                    self._consume(live)
            except Gone as error:
                now = time.monotonic()
                away_since = away_since or now
                if now - away_since >= self.source.give_up_after:
                    self.snapshot()
                    raise MissingError(
                        f"source.stream: {self.source.label()}: {error}; see to that, "
                        "then run again to continue"
                    ) from None
                ui.warn(f"{self.source.label()}: {error}; trying again in {pause:.1f} s")
                self._wait(pause)
                pause = min(LONGEST_PAUSE, pause * 2) * random.uniform(0.8, 1.0)
        self.snapshot()

    def done(self) -> bool:
        """Whether the run ends now."""
        source = self.source
        return (
            bool(self.stop.signal)
            or (source.max_events is not None and self.received >= source.max_events)
            or (source.until_idle is not None and self.idle >= source.until_idle)
        )

    def _consume(self, live: Live) -> None:
        while not self.done():
            limit = self.source.batch
            if self.source.max_events is not None:
                limit = min(limit, self.source.max_events - self.received)
            asked = time.monotonic()
            messages = live.receive(limit, WAIT)
            self.idle += time.monotonic() - asked
            if messages:
                self.idle = 0.0
                self._keep(live, messages)
            self._tell(live)
            if self._due():
                self.snapshot()

    def _keep(self, live: Live, messages: list[Message]) -> None:
        """One batch: read, on the disk, acknowledged; in this order."""
        entries = [entry for message in messages if (entry := self._entry(live, message))]
        if not entries:
            return
        self.changed += self.ledger.apply(entries, ordered=self.source.stream.ordered)
        live.acknowledge([entry.message for entry in entries])
        self.received += len(entries)

    def _entry(self, live: Live, message: Message) -> Entry | None:
        """What a message says; None when the file it points at has changed since."""
        event: Event | None = None
        parts: list[Part] = []
        error: Unreadable | None = None
        try:
            event = event_of(message.body, self.recipe.max_bytes)
            if event.op == "upsert":
                parts, error = parts_of(
                    self.recipe, event, self.source.stream.root, self.ledger.folder / CONTENT
                )
        except Unreadable as unreadable:
            error = unreadable
        if not live.still(message):
            return None
        if error is not None and self.recipe.on_error == "fail":
            where = event.uri if event else f"{message.lane} {message.position}".strip()
            raise InputError(
                f"{self.source.label()}: {where}: {error.reason}: {error.detail}; the message is "
                "not acknowledged: repair it, or set on_error: skip"
            )
        return Entry(message, event, parts, error)

    def _due(self) -> bool:
        waited = time.monotonic() - self.published
        if waited < SHARE * self.took or self.ledger.revision == self.revision:
            return False
        return (
            waited >= self.source.publish_seconds or self.changed >= self.source.publish_documents
        )

    def snapshot(self) -> None:
        """Publish what the ledger holds, when that is news."""
        revision = self.ledger.revision
        if revision != self.revision and revision:
            started = time.monotonic()
            self.ledger.export_dead()
            self.publish()
            self.took = time.monotonic() - started
        self.revision, self.changed, self.published = revision, 0, time.monotonic()

    def _tell(self, live: Live) -> None:
        now = time.monotonic()
        if now - self.told < TELL:
            return
        self.told, lag = now, live.lag()
        waiting = "" if lag is None else f", {lag} waiting"
        ui.note(
            f"follow: {self.received} events, {self.ledger.documents()} documents, "
            f"{self.ledger.count('dead')} dead letters{waiting}"
        )

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not self.done():
            time.sleep(min(0.1, seconds))


def run(recipe: IngestRecipe, publish: Callable[[], None]) -> tuple[dict[str, Any], int]:
    """Follow the recipe's stream; returns the ledger's counts and the signal that ended it, or 0.

    `publish` makes the snapshot when the recipe's artifact is not up to date.
    """
    assert isinstance(recipe.source, StreamSource)
    stop = Stop()
    ledger = Ledger(recipe.source.ledger, write=True)
    try:
        with stop.listening():
            ui.note(f"following {recipe.source.label()}")
            follower = Follower(recipe, ledger, publish, stop)
            follower.run()
            counts: dict[str, Any] = {name: ledger.count(name) for name in COUNTED}
            counts |= {"events": follower.received, "documents": ledger.documents()}
    except sqlite3.Error as error:
        raise LlmctlError(
            f"source.ledger: {recipe.source.file()}: {error}; what could not be kept is not "
            "acknowledged: repair that and run again to continue"
        ) from None
    finally:
        ledger.close()
    if counts["dead"]:
        where = recipe.source.ledger / DEAD
        ui.warn(f"{counts['dead']} messages could not be used, see {where}")
    return counts, stop.signal
