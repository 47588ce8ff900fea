"""Kills of `llmctl ingest --follow`: 10,000 events and 20 kills for each source.

    python bench/follow.py [folder redis rabbitmq kafka] [--events 10000] [--kills 20]

The events arrive while the follower runs, and the follower is killed (SIGKILL) 20 times: every
other time at a moment of the clock, which hits loading and snapshots, else at a count of messages,
which hits the middle of a batch. At the end the snapshot must hold exactly the last version of each
document and the ledger each unusable message once. Then the same events are followed once more
without a kill, for the speed and the memory. Real servers; Kafka is librdkafka's mock cluster.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "rag"))
import servers
from streaming import Follower, Workload, kill, slices

NAMES = {"redis": "stream", "rabbitmq": "queue", "kafka": "topic"}
SOURCES = ("folder", *NAMES)
DOCUMENTS = 1500


class Folder:
    """A folder as a server: an upsert writes a file and renames it, a delete removes it."""

    variable, url = "UNUSED", ""

    def __init__(self, root: Path) -> None:
        self.root = root
        root.mkdir(parents=True)

    def send(self, rows: Sequence[tuple[str, bytes]]) -> None:
        for uri, body in rows:
            path = self.root / f"{uri}.md"
            path.parent.mkdir(exist_ok=True)
            try:
                event = json.loads(body)
            except ValueError:
                path, event = self.root / f"bad{hash(body)}.md", {"bytes": "/w=="}  # not UTF-8
            if event.get("op") == "delete":
                path.unlink(missing_ok=True)
                continue
            data = event.get("text", "").encode() or base64.b64decode(event["bytes"])
            partial = path.with_name(path.name + ".tmp")
            partial.write_bytes(data)
            partial.replace(path)


@contextmanager
def started(kind: str, folder: Path) -> Iterator[Any]:
    """A server, or a folder."""
    if kind == "folder":
        yield Folder(folder / "watched")
        return
    with servers.running(kind, folder) as server:
        yield server


def stream_of(kind: str, server: Any, name: str) -> dict[str, Any]:
    """A stream with nothing in it."""
    if kind == "folder":
        shutil.rmtree(server.root)
        server.root.mkdir()
        return {"kind": "folder", "root": str(server.root), "interval": 0.1}
    setattr(server, NAMES[kind], name)
    if kind == "rabbitmq":
        server.channel.queue_declare(name, durable=True)
    return {"kind": kind, NAMES[kind]: name}


def wrong(kind: str, follower: Follower, work: Workload) -> tuple[int, int]:
    """(lost, doubled): documents and dead letters that are not as they must be."""
    suffix = ".md" if kind == "folder" else ""
    want = {f"{uri}{suffix}": text for uri, text in work.left.items()}
    rows = [json.loads(line) for line in (follower.out / "documents.jsonl").open()]
    have = {row["uri"]: row["text"].strip() for row in rows}
    lost = sum(have.get(uri) != text for uri, text in want.items())
    doubled = len(rows) - len(have) + len(have.keys() - want.keys())
    chunks = [json.loads(line)["id"] for line in (follower.out / "chunks.jsonl").open()]
    dead = [row["body"] for row in follower.dead()]
    lost += max(0, len(work.dead) - len(set(dead)))
    doubled += len(chunks) - len(set(chunks)) + max(0, len(dead) - len(work.dead))
    return lost, doubled


def killed(kind: str, server: Any, folder: Path, work: Workload, kills: int) -> dict[str, Any]:
    """Follow with kills; what was found at the end."""
    draw = random.Random(kind)
    follower = Follower(
        folder, stream_of(kind, server, "killed"), (server.variable, server.url), batch=16,
        publish_seconds=1,
    )  # fmt: skip
    began, sent, counted, amid = time.monotonic(), 0, 0, 0
    for number, rows in enumerate(slices(work.rows, kills + 1)):
        child = follower.start() if number < kills else None
        before, wall = follower.received(), time.time()
        sender = threading.Thread(target=server.send, args=(rows,))
        sender.start()
        if child is not None:
            at_count = number % 2 == 0
            goal = before + draw.randrange(1, max(2, len(rows) // 3))
            until = time.monotonic() + (30 if at_count else draw.uniform(0.5, 5))
            while time.monotonic() < until and not (at_count and follower.received() >= goal):
                time.sleep(0.002)
            assert child.poll() is None, follower.log.read_text()[-2000:]
            kill(child)
            counted += follower.received() > before
            mark = follower.out.with_name("out.partial") / ".building"
            amid += mark.is_file() and mark.stat().st_mtime >= wall
        sender.join()
        sent += len(rows)
    result = follower.drain(idle=3, seconds=600)
    lost, doubled = wrong(kind, follower, work)
    counts = result["follow"]
    return {
        "events": sent, "kills": kills, "amid": amid, "counted": counted, "lost": lost,
        "doubled": doubled, "documents": counts["documents"], "dead": counts["dead"],
        "again": counts["late"] if kind != "rabbitmq" else counts["received"] - sent,
        "seconds": time.monotonic() - began,
    }  # fmt: skip


def plain(kind: str, server: Any, folder: Path, work: Workload) -> dict[str, Any]:
    """Follow once without a kill: events a second into the ledger, peak memory."""
    stream = stream_of(kind, server, "plain")
    follower = Follower(folder, stream, (server.variable, server.url), publish_seconds=1e6)
    server.send(work.rows)
    child = follower.start("until_idle=3", "publish_documents=1000000")
    first = None
    while (now := follower.received()) == 0 and child.poll() is None:
        time.sleep(0.002)
    first, begun, last, ended = now, time.monotonic(), now, time.monotonic()
    while not (follower.out / "manifest.json").is_file() and child.poll() is None:
        if (now := follower.received()) > last:
            last, ended = now, time.monotonic()
        time.sleep(0.01)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, follower.log.read_text()[-2000:]
    return {
        "rate": (last - first) / max(1e-9, ended - begun),
        "memory": usage.ru_maxrss // 1024,
        "wrong": sum(wrong(kind, follower, work)),
    }


def main() -> None:
    """Print one row per source."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sources", nargs="*", default=SOURCES)
    parser.add_argument("--events", type=int, default=10_000)
    parser.add_argument("--kills", type=int, default=20)
    given = parser.parse_args()
    print(
        "| source | events | kills | amid a snapshot | lost | doubled | came again | documents | "
        "dead letters | seconds | events/s | peak MB |"
    )
    print("|---|" + "---:|" * 11, flush=True)
    for kind in given.sources:
        if command := servers.missing(kind):
            print(f"| {kind} | not there: {command} |")
            continue
        work = Workload.of(given.events, seed=11, documents=DOCUMENTS)
        with tempfile.TemporaryDirectory() as name, started(kind, Path(name) / "server") as server:
            k = killed(kind, server, Path(name) / "killed", work, given.kills)
            p = plain(kind, server, Path(name) / "plain", work)
        assert k["lost"] == k["doubled"] == p["wrong"] == 0, (k, p)
        print(
            f"| {kind} | {k['events']:,} | {k['kills']} | {k['amid']} | {k['lost']} | "
            f"{k['doubled']} | {k['again']} | {k['documents']:,} | {k['dead']} | "
            f"{k['seconds']:.0f} | {p['rate']:,.0f} | {p['memory']} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
