"""Requests, latencies, sources and feedback in one SQLite file; it is appended to across runs."""

from __future__ import annotations

import json
import sqlite3
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmctl import ui

SCHEMA = """
CREATE TABLE IF NOT EXISTS traces (
  id TEXT PRIMARY KEY, started REAL, route TEXT, model TEXT, status INTEGER, stream INTEGER,
  prompt_tokens INTEGER, completion_tokens INTEGER, seconds REAL, first_token_seconds REAL,
  sources TEXT, messages TEXT, answer TEXT, error TEXT);
CREATE TABLE IF NOT EXISTS feedback (
  request_id TEXT, at REAL, rating INTEGER, comment TEXT, correction TEXT);
"""


@dataclass
class Trace:
    """One request; times in seconds."""

    id: str
    started: float
    route: str
    model: str = ""
    status: int = 200
    stream: bool = False
    prompt_tokens: int = 0
    completion_tokens: int = 0
    seconds: float = 0.0
    first_token_seconds: float | None = None
    sources: list[dict[str, Any]] = field(default_factory=list)
    messages: Any = None
    answer: str | None = None
    error: str | None = None


class Traces:
    """The database; content is kept only when asked for."""

    def __init__(self, path: Path, *, content: bool) -> None:
        self._content = content
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.executescript(SCHEMA)

    def add(self, trace: Trace) -> None:
        """Keep one request."""
        messages = json.dumps(trace.messages, ensure_ascii=False) if self._content else None
        sources = [{k: v for k, v in s.items() if k != "text"} for s in trace.sources]
        row = (
            trace.id,
            trace.started,
            trace.route,
            trace.model,
            trace.status,
            int(trace.stream),
            trace.prompt_tokens,
            trace.completion_tokens,
            trace.seconds,
            trace.first_token_seconds,
            json.dumps(sources, ensure_ascii=False),
            messages,
            trace.answer if self._content else None,
            trace.error,
        )
        with self._lock:
            marks = ", ".join("?" * len(row))
            self._database.execute(f"INSERT OR REPLACE INTO traces VALUES ({marks})", row)

    def add_feedback(
        self, request_id: str, at: float, rating: int, comment: str | None, correction: str | None
    ) -> bool:
        """Keep a thumb (1 or -1); False when there was no such request."""
        with self._lock:
            known = self._database.execute(
                "SELECT 1 FROM traces WHERE id = ?", (request_id,)
            ).fetchone()
            if known is None:
                return False
            self._database.execute(
                "INSERT INTO feedback VALUES (?, ?, ?, ?, ?)",
                (request_id, at, rating, comment, correction),
            )
            return True

    def totals(self) -> dict[str, float]:
        """Counts over the whole file."""
        with self._lock:
            row = self._database.execute(
                "SELECT count(*), coalesce(sum(status >= 400), 0), coalesce(sum(prompt_tokens), 0),"
                " coalesce(sum(completion_tokens), 0), coalesce(sum(seconds), 0) FROM traces"
            ).fetchone()
            feedback = self._database.execute("SELECT count(*) FROM feedback").fetchone()[0]
        names = ("requests", "failed", "prompt_tokens", "completion_tokens", "seconds")
        return {**dict(zip(names, row, strict=True)), "feedback": feedback}

    def close(self) -> None:
        """Fold the journal into the file; who else has it open keeps two files beside it."""
        with self._lock:
            self._database.execute("PRAGMA busy_timeout=500")
            self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            try:
                self._database.execute("PRAGMA journal_mode=DELETE")
            except sqlite3.OperationalError:
                ui.warn("traces.sqlite is open in another program, which has its journal as well")
            self._database.close()
