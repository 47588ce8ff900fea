"""What the tests and the bench of `ingest --follow` share: events, a follower, checks."""

from __future__ import annotations

import base64
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


@dataclass
class Workload:
    """Events over a few documents, in order, and what must be left when all have been applied."""

    rows: list[tuple[str, bytes]] = field(default_factory=list)
    left: dict[str, str] = field(default_factory=dict)
    dead: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, events: int, *, seed: int, documents: int) -> Workload:
        """Upserts with a growing number in their text, one in ten a deletion, some unusable."""
        made, draw = cls(), random.Random(seed)
        for number in range(events):
            uri = f"kb/{draw.randrange(documents)}"
            kind = draw.random()
            text = f"Note {uri} was written {number} times and speaks of pump {number % 17}."
            if kind < 0.1:
                made.left.pop(uri, None)
                body = json.dumps({"op": "delete", "uri": uri})
            elif kind < 0.13:
                body = f'{{"op": "upsert", "uri": "{uri}", "text": {number}'
                made.dead.add(body)
            elif kind < 0.2:
                made.left[uri] = text
                content = base64.b64encode(text.encode()).decode()
                body = json.dumps({"uri": uri, "bytes": content, "name": "note.txt"})
            else:
                made.left[uri] = text
                body = json.dumps({"op": "upsert", "uri": uri, "text": text})
            made.rows.append((uri, body.encode()))
        return made


class Follower:
    """`llmctl ingest --follow` as a process of its own, with an embedder that needs no model."""

    def __init__(self, folder: Path, stream: dict[str, Any], url: tuple[str, str], **keys: Any):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.out, self.ledger = folder, folder / "out", folder / "ledger"
        source = {"kind": "stream", "stream": stream, "ledger": str(self.ledger), **keys}
        recipe = {
            "stage": "ingest", "out": str(self.out), "source": source,
            "embedder": {"kind": "hashing", "dimensions": 64},
        }  # fmt: skip
        self.recipe = folder / "recipe.yaml"
        self.recipe.write_text(json.dumps(recipe))
        path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
        self.environment = {**os.environ, "PYTHONPATH": path, url[0]: url[1]}
        self.log = folder / "log"

    def start(self, *sets: str) -> subprocess.Popen[bytes]:
        """Begin to follow; stderr goes to `log`."""
        given = [part for each in sets for part in ("--set", f"source.{each}")]
        command = [sys.executable, "-m", "llmctl", "ingest", str(self.recipe), "--follow", "--json"]
        with self.log.open("ab") as log, (self.folder / "result").open("wb") as result:
            return subprocess.Popen(
                [*command, *given], stdout=result, stderr=log, env=self.environment
            )

    def drain(self, *sets: str, idle: float = 1.0, seconds: float = 300) -> dict[str, Any]:
        """Follow until nothing comes any more; what `--json` printed."""
        code = self.start(f"until_idle={idle}", *sets).wait(seconds)
        assert code == 0, self.log.read_text()[-3000:]
        result: dict[str, Any] = json.loads((self.folder / "result").read_text())
        return result

    def received(self) -> int:
        """How many messages the ledger has."""
        return self.count("received")

    def count(self, name: str) -> int:
        """One of the ledger's counts, read from outside."""
        try:
            found = sqlite3.connect(
                f"file:{self.ledger}/ledger.sqlite?mode=ro", uri=True, timeout=5
            )
            row = found.execute("SELECT value FROM counts WHERE name = ?", (name,)).fetchone()
            found.close()
        except sqlite3.Error:
            return 0
        return int(row[0]) if row else 0

    def wait_for(self, count: int, child: subprocess.Popen[bytes], seconds: float = 60) -> None:
        """Until the ledger has received so many messages."""
        until = time.monotonic() + seconds
        while self.received() < count:
            assert child.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < until, f"{self.received()} of {count}"
            time.sleep(0.005)

    def documents(self) -> dict[str, str]:
        """uri -> text of the published snapshot; a document that is there twice is an error."""
        rows = [json.loads(line) for line in (self.out / "documents.jsonl").open()]
        found = {row["uri"]: row["text"].strip() for row in rows}
        assert len(found) == len(rows)
        return found

    def dead(self) -> list[dict[str, Any]]:
        """The dead letters."""
        return [json.loads(line) for line in (self.ledger / "dead_letters.jsonl").open()]


def kill(child: subprocess.Popen[bytes]) -> None:
    """No goodbye."""
    os.kill(child.pid, signal.SIGKILL)
    child.wait()


def slices(rows: Sequence[tuple[str, bytes]], parts: int) -> list[Sequence[tuple[str, bytes]]]:
    """The rows in about equal parts, in order."""
    size = -(-len(rows) // parts)
    return [rows[first : first + size] for first in range(0, len(rows), size)]


def check(follower: Follower, workload: Workload) -> None:
    """The snapshot holds what must be left, every dead letter is kept once, the store agrees."""
    assert follower.documents() == workload.left
    assert sorted(row["body"] for row in follower.dead()) == sorted(workload.dead)
    chunks = [json.loads(line)["id"] for line in (follower.out / "chunks.jsonl").open()]
    assert len(set(chunks)) == len(chunks)
