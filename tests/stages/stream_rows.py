"""Where each key of a stream source lands; part of reach_ingest.py."""

from __future__ import annotations

import json
import os
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmctl.errors import MissingError

STREAM = "source[stream]"
FOLDER = {"kind": "folder", "root": "incoming"}
KINDS: dict[str, dict[str, Any]] = {
    STREAM: {"ledger": "ledger", "stream": FOLDER},
    f"{STREAM}.stream[folder]": {"root": "incoming"},
}


class Calls:
    """A client that notes its calls and has nothing to give."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        def called(*args: Any, **kwargs: Any) -> Any:
            self.made[name] = (args, kwargs)
            return self if name == "channel" else []

        return called


def follower(built: SimpleNamespace, **state: Any) -> Any:
    """A follower whose ledger is empty and whose snapshots do nothing."""
    from llmctl.rag.follow import Follower, Stop

    ledger = SimpleNamespace(revision=1, folder=Path(), export_dead=lambda: 0)
    return Follower(built.recipe, ledger, lambda: None, Stop(), **state)  # type: ignore[arg-type]


def limit(built: SimpleNamespace) -> int:
    """How many messages a stream is asked for."""
    each, asked = follower(built), []

    def receive(count: int, seconds: float) -> list[Any]:
        asked.append(count)
        each.stop.signal = 15
        return []

    each._consume(SimpleNamespace(receive=receive, lag=lambda: None))
    return int(asked[0])


def gives_up(built: SimpleNamespace) -> bool:
    """Whether a server that is away ends the run at once."""
    from llmctl.rag.streams.base import Gone

    each = follower(built)

    @contextmanager
    def away(known: Any) -> Any:
        each.stop.signal = 15
        raise Gone("away")
        yield

    with mock.patch.object(
        type(built.recipe.source.stream), "open", lambda self, known: away(known)
    ):
        try:
            each.run()
        except MissingError:
            return True
    return False


def path_reason(built: SimpleNamespace) -> str:
    """Why an event with a path below no folder, or below one without the file, is refused."""
    from llmctl.rag.streams.base import Message

    body = json.dumps({"uri": "a", "path": "no such file"}).encode()
    entry = follower(built)._entry(SimpleNamespace(still=lambda m: True), Message(body, "lane"))
    return str(entry.error.reason)


def environment(built: SimpleNamespace) -> str:
    """The variable that an open without an address asks for."""
    with mock.patch.dict(os.environ, clear=True):
        try:
            with built.recipe.source.stream.open(None):
                return ""
        except MissingError as error:
            return str(error).partition("export ")[2].partition("=")[0]


def redis_call(name: str, place: Any) -> Any:
    """An argument of a call of the Redis client."""

    def where(built: SimpleNamespace) -> Any:
        from llmctl.rag.streams.redis import Live

        client = Calls()
        live = Live(built.recipe.source.stream, client)
        live.pending = None
        live.receive(1, 0.1)
        live._message("1-0", {})
        args, kwargs = client.made[name]
        return args[place] if isinstance(place, int) else kwargs[place]

    return where


def redis_body(built: SimpleNamespace) -> bytes:
    from llmctl.rag.streams.redis import Live

    live = Live(built.recipe.source.stream, Calls())
    return bytes(live._message("1-0", {b"event": b"event", b"other": b"other"}).body)


def rabbitmq_prefetch(built: SimpleNamespace) -> int:
    from llmctl.rag.streams.rabbitmq import Live

    connection = Calls()
    Live(built.recipe.source.stream, connection)
    return int(connection.made["basic_qos"][1]["prefetch_count"])


def kafka_settings(built: SimpleNamespace) -> dict[str, Any]:
    given = {"KAFKA_SERVERS": "a:1", "MORE": '{"client.id": "other"}'}
    with mock.patch.dict(os.environ, given):
        found: dict[str, Any] = built.recipe.source.stream.settings()
    return found


def pause(built: SimpleNamespace) -> bool:
    """Whether the second look at a folder waits long."""
    with tempfile.TemporaryDirectory() as folder:
        return _looked(built, Path(folder)).next_look - time.monotonic() > 5


def found_files(built: SimpleNamespace) -> list[str]:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("a.md", "a.xyz", "a.tmp"):
            (Path(folder) / name).write_text("text")
        return sorted(_looked(built, Path(folder)).before)


def _looked(built: SimpleNamespace, folder: Path) -> Any:
    from llmctl.rag.streams.folder import Live

    live = Live(built.recipe.source.stream.model_copy(update={"root": folder}), {})
    live._look()
    return live


def label(built: SimpleNamespace) -> str:
    return str(built.recipe.source.label())


REDIS, RABBITMQ, KAFKA, WATCHED = (
    f"{STREAM}.stream[{kind}]" for kind in ("redis", "rabbitmq", "kafka", "folder")
)
REFUSED = ("other", path_reason, "unreadable")
ROWS: dict[str, Any] = {
    f"{STREAM}.stream": ("redis", label, "redis stream documents, group llmctl"),
    f"{STREAM}.ledger": (
        "other", lambda built: str(built.recipe.source.file()), "other/ledger.sqlite"
    ),
    f"{STREAM}.batch": (7, limit),
    f"{STREAM}.publish_seconds": (
        5, lambda b: follower(b, published=time.monotonic() - 9)._due(), True
    ),
    f"{STREAM}.publish_documents": (5, lambda built: follower(built, changed=9)._due(), True),
    f"{STREAM}.until_idle": (5, lambda built: follower(built, idle=9).done(), True),
    f"{STREAM}.max_events": (5, lambda built: follower(built, received=9).done(), True),
    f"{STREAM}.give_up_after": (0, gives_up, True),
    f"{REDIS}.root": REFUSED,
    f"{REDIS}.url_env": ("OTHER", environment),
    f"{REDIS}.stream": ("other", label, "redis stream other, group llmctl"),
    f"{REDIS}.group": ("other", redis_call("xreadgroup", 0)),
    f"{REDIS}.consumer": ("other", redis_call("xreadgroup", 1)),
    f"{REDIS}.field": ("other", redis_body, b"other"),
    f"{REDIS}.claim_after": (7, redis_call("xautoclaim", 3), 7000),
    f"{RABBITMQ}.root": REFUSED,
    f"{RABBITMQ}.url_env": ("OTHER", environment),
    f"{RABBITMQ}.queue": ("other", label, "rabbitmq queue other"),
    f"{RABBITMQ}.prefetch": (7, rabbitmq_prefetch),
    f"{KAFKA}.root": REFUSED,
    f"{KAFKA}.url_env": ("OTHER", environment),
    f"{KAFKA}.settings_env": (
        "MORE", lambda built: kafka_settings(built).get("client.id"), "other"
    ),
    f"{KAFKA}.topic": ("other", label, "kafka topic other, group llmctl"),
    f"{KAFKA}.group": ("other", lambda built: kafka_settings(built)["group.id"]),
    f"{WATCHED}.root": ("other", label, "folder other"),
    f"{WATCHED}.interval": (60, pause, True),
    f"{WATCHED}.ignore": (["*.xyz"], found_files, ["a.md", "a.tmp"]),
}  # fmt: skip
