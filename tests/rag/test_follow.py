"""`ingest --follow` against real servers: kills, redelivery, poison, restarts, a watched folder."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
import servers
from streaming import Follower, Workload, check, kill, slices

from llmctl.errors import InputError, MissingError
from llmctl.rag.follow import Follower as Loop
from llmctl.rag.follow import Stop
from llmctl.rag.ledger import Ledger
from llmctl.rag.sources.stream import StreamSource
from llmctl.schema.ingest import IngestRecipe

LIBRARIES = {"redis": "redis", "rabbitmq": "pika", "kafka": "confluent_kafka"}
NAMES = {"redis": "stream", "rabbitmq": "queue", "kafka": "topic"}


def needed(kind: str) -> None:
    """Skip, or fail in CI, when a server's program or library is not there."""
    pytest.importorskip(LIBRARIES[kind])
    command = servers.missing(kind)
    if command and os.environ.get("CI"):
        pytest.fail(f"no {kind} server; run: {command}")
    if command:
        pytest.skip(f"no {kind} server; {command}")


@pytest.fixture(scope="module", params=["redis", "rabbitmq", "kafka"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    needed(request.param)
    with servers.running(request.param, tmp_path_factory.mktemp(request.param)) as each:
        each.kind = request.param
        yield each


@pytest.fixture
def stream(server: Any, request: pytest.FixtureRequest, monkeypatch: Any) -> dict[str, Any]:
    """A stream of its own for one test on the shared server."""
    name = request.node.originalname
    setattr(server, NAMES[server.kind], name)
    if server.kind == "rabbitmq":
        server.channel.queue_declare(name, durable=True)
    monkeypatch.setenv(server.variable, server.url)
    return {"kind": server.kind, NAMES[server.kind]: name}


def recipe_of(folder: Path, stream: dict[str, Any], **keys: Any) -> IngestRecipe:
    on_error = keys.pop("on_error", "skip")
    source = {"kind": "stream", "stream": stream, "ledger": str(folder / "ledger"), **keys}
    values = {"stage": "ingest", "out": "out", "source": source, "on_error": on_error}
    return IngestRecipe.model_validate(values)


def followed(recipe: IngestRecipe) -> tuple[dict[str, str], dict[str, int], list[dict[str, Any]]]:
    """Follow in this process without snapshots: (texts, counts, dead letters) of the ledger."""
    source = recipe.source
    assert isinstance(source, StreamSource)
    ledger = Ledger(source.ledger, write=True)
    try:
        Loop(recipe, ledger, lambda: None, Stop()).run()
        texts = {uri: json.loads(row)["text"].strip() for uri, _, row in ledger.rows()}
        names = ("received", "upserts", "deletes", "unchanged", "late", "dead")
        counts = {name: ledger.count(name) for name in names}
    finally:
        ledger.close()
    dead = source.ledger / "dead_letters.jsonl"
    rows = [json.loads(line) for line in dead.open()] if dead.is_file() else []
    return texts, counts, rows


def idle(server: Any) -> float:
    """Seconds without a message after which none is on its way; Kafka's fetches take turns."""
    return 1.5 if server.kind == "kafka" else 0.3


def upsert(uri: str, text: str) -> tuple[str, bytes]:
    return uri, json.dumps({"uri": uri, "text": text}).encode()


def test_three_kills_lose_nothing_and_double_nothing(
    server: Any, stream: dict[str, Any], tmp_path: Path
) -> None:
    pytest.importorskip("chromadb")
    work = Workload.of(500, seed=7, documents=60)
    follower = Follower(tmp_path, stream, (server.variable, server.url), batch=8)
    for number, rows in enumerate(slices(work.rows, 4)):
        server.send(rows)
        if number < 3:
            child = follower.start("publish_seconds=0.3")
            follower.wait_for(number * 125 + 60, child)
            kill(child)
    result = follower.drain()
    check(follower, work)
    counts = result["follow"]
    applied = sum(counts[name] for name in ("upserts", "deletes", "unchanged", "dead"))
    assert counts["received"] == applied + counts["late"]
    if server.kind != "rabbitmq":  # its messages have no position: applied again is unchanged
        assert applied == 500


def test_a_batch_that_was_kept_and_not_acknowledged_changes_nothing_when_it_comes_again(
    server: Any, stream: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = recipe_of(tmp_path, stream, until_idle=idle(server), batch=4)
    bad = ("a", b"not json")
    server.send([upsert("a", "one"), upsert("b", "two"), bad, upsert("a", "three")])
    live = __import__(f"llmctl.rag.streams.{server.kind}", fromlist=["Live"]).Live
    acknowledge = live.acknowledge
    monkeypatch.setattr(live, "acknowledge", _dies)
    with pytest.raises(SystemExit):
        followed(recipe)
    monkeypatch.setattr(live, "acknowledge", acknowledge)
    server.send([upsert("b", "four")])
    texts, counts, dead = followed(recipe)
    assert texts == {"a": "three", "b": "four"}
    assert [row["body"] for row in dead] == ["not json"]
    assert counts["dead"] == 1 and counts["received"] > 5
    if server.kind != "rabbitmq":
        assert counts["upserts"] == 4
    assert followed(recipe)[1]["received"] == counts["received"], "all are acknowledged now"


def _dies(self: Any, messages: Any) -> None:
    raise SystemExit


def test_poison_is_kept_with_its_reason_and_the_rest_goes_on(
    server: Any, stream: dict[str, Any], tmp_path: Path
) -> None:
    files = tmp_path / "files"
    files.mkdir()
    (files / "good.md").write_text("# Pump\n\nThe pump is serviced every year.")
    (files / "bad.pdf").write_bytes(b"%PDF-1.4 nothing")
    (tmp_path / "secret.txt").write_text("not for the index")
    (files / "link.txt").symlink_to(tmp_path / "secret.txt")
    poison: dict[bytes, str] = {
        b'{"uri": "1"': "bad_json",
        b"\xff\xfe\x00": "bad_json",
        b"[" * 100_000: "bad_json",
        b'{"uri": "n", "text": "x", "meta": {"a": NaN}}': "bad_json",
        b"[1, 2]": "bad_event",
        b'{"op": "merge", "uri": "2", "text": "x"}': "bad_event",
        b'{"text": "no name"}': "bad_event",
        b'{"uri": "3", "text": "x", "bytes": "eA=="}': "bad_event",
        b'{"uri": "4", "bytes": "***"}': "bad_event",
        b'{"uri": "5", "text": 5}': "bad_event",
        b'{"uri": "6"}': "no_text",
        b'{"uri": "7", "text": "   "}': "no_text",
        b'{"uri": "8", "path": "../secret.txt"}': "path_refused",
        b'{"uri": "9", "path": "link.txt"}': "path_refused",
        b'{"uri": "10", "path": "none.txt"}': "unreadable",
        b'{"uri": "11", "path": "bad.pdf", "name": "x.pdf"}': "broken_pdf",
        b'{"uri": "12.jpg", "bytes": "eA=="}': "no_reader",
        b'{"uri": "13", "text": "' + b"x" * 200_000 + b'"}': "too_large",
    }
    good = json.dumps({"id": 14, "path": "good.md", "name": "good.md", "title": "Service"})
    rows = [("key", body) for body in poison] + [("key", good.encode())]
    server.send(rows)
    recipe = recipe_of(tmp_path, {**stream, "root": str(files)}, until_idle=idle(server))
    recipe = recipe.model_copy(update={"max_bytes": 150_000})
    texts, counts, dead = followed(recipe)
    assert texts == {"14": "# Pump\n\nThe pump is serviced every year."}
    assert {_bytes(row): row["reason"] for row in dead} == poison
    assert all(
        row["detail"] and "secret" not in row["detail"].replace("secret.txt", "") for row in dead
    )
    assert counts["dead"] == len(poison) and counts["upserts"] == 1
    strict = recipe_of(tmp_path / "strict", stream, until_idle=idle(server), on_error="fail")
    server.send([("key", b"again not json")])
    with pytest.raises(InputError, match=r"bad_json: .*the message is not acknowledged"):
        followed(strict)


def _bytes(row: dict[str, Any]) -> bytes:
    import base64

    return row["body"].encode() if "body" in row else base64.b64decode(row["body_base64"])


def test_a_server_that_restarts_is_found_again(
    server: Any, stream: dict[str, Any], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = recipe_of(tmp_path, stream, max_events=20, batch=5)
    server.send([upsert(f"a{n}", "before") for n in range(10)])
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(followed(recipe)))
    thread.start()
    _until(lambda: _received(tmp_path) == 10)
    if server.kind == "kafka":  # the mock cluster forgets everything at its end: it falls silent
        os.killpg(server.child.pid, signal.SIGSTOP)
        time.sleep(1)
        os.killpg(server.child.pid, signal.SIGCONT)
    else:
        server.stop()
        time.sleep(0.2)
        server.start()
    server.send([upsert(f"b{n}", "after") for n in range(10)])
    thread.join(60)
    texts, counts, _ = found[0]
    assert len(texts) == 20 and counts["upserts"] == 20
    told = capfd.readouterr().err
    assert server.kind == "kafka" or ("trying again in 0.5 s" in told and "connected again" in told)


def _received(folder: Path) -> int:
    ledger = Ledger(folder / "ledger")
    try:
        return ledger.count("received")
    finally:
        ledger.close()


def _until(true: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if true():
                return
        except Exception:
            pass
        time.sleep(0.02)
    raise AssertionError("waited too long")


def test_what_another_consumer_left_lying_is_taken_over(tmp_path: Path) -> None:
    needed("redis")
    with servers.running("redis", tmp_path / "server") as server, pytest.MonkeyPatch.context() as m:
        m.setenv(server.variable, server.url)
        server.send([upsert("a", "one"), upsert("b", "two")])
        server.client.xgroup_create("documents", "llmctl", "0")
        server.client.xreadgroup("llmctl", "old", {"documents": ">"}, count=1)
        stream = {"kind": "redis", "claim_after": 0.05}
        texts, _, _ = followed(recipe_of(tmp_path, stream, until_idle=1))
        assert texts == {"a": "one", "b": "two"}
        assert server.client.xpending("documents", "llmctl")["pending"] == 0


def test_a_wrong_password_ends_the_run_at_once(tmp_path: Path, monkeypatch: Any) -> None:
    needed("redis")
    with servers.running("redis", tmp_path / "server") as server:
        server.client.config_set("requirepass", "sesame")
        monkeypatch.setenv("REDIS_URL", server.url.replace("redis://", "redis://:hunter2@"))
        with pytest.raises(MissingError, match="redis refuses the login") as error:
            followed(recipe_of(tmp_path, {"kind": "redis"}))
        assert "hunter2" not in str(error.value)


@pytest.mark.parametrize(
    ("stream", "variable", "url"),
    [
        ("redis", "REDIS_URL", "redis://user:hunter2@127.0.0.1:1/0"),
        ("rabbitmq", "RABBITMQ_URL", "amqp://user:hunter2@127.0.0.1:1/"),
        ("kafka", "KAFKA_SERVERS", "127.0.0.1:1"),
    ],
)
def test_no_server_and_no_address_are_one_line(
    stream: str, variable: str, url: str, tmp_path: Path, monkeypatch: Any, capfd: Any
) -> None:
    pytest.importorskip(LIBRARIES[stream])
    recipe = recipe_of(tmp_path, {"kind": stream}, give_up_after=0)
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(MissingError, match=f"{variable} is not set; export {variable}="):
        followed(recipe)
    monkeypatch.setattr("llmctl.rag.streams.kafka.ANSWER", 0.5)
    monkeypatch.setenv(variable, url)
    with pytest.raises(MissingError, match="see to that, then run again") as error:
        followed(recipe)
    assert "\n" not in str(error.value) and "hunter2" not in str(error.value)
    monkeypatch.setenv(variable, "nonsense://x")
    if stream != "kafka":  # which takes any name for a host
        with pytest.raises(MissingError, match="is not the address of a"):
            followed(recipe)


def test_a_watched_folder_is_followed_through_kills_renames_and_deletions(tmp_path: Path) -> None:
    pytest.importorskip("chromadb")
    watched = tmp_path / "watched"
    watched.mkdir()
    stream = {"kind": "folder", "root": str(watched), "interval": 0.05}
    follower = Follower(tmp_path / "run", stream, ("NONE", ""), batch=4)
    left: dict[str, str] = {}

    def put(name: str, text: str) -> None:
        path = watched / name
        path.parent.mkdir(exist_ok=True)
        partial = path.with_name(path.name + ".tmp")
        partial.write_text(text)
        partial.replace(path)
        left[name] = text

    for number in range(60):
        put(f"{number % 3}/{number}.md", f"Note {number} as it was first written down here.")
    child = follower.start("publish_seconds=0.3")
    follower.wait_for(20, child)
    kill(child)
    for number in range(20, 40):
        put(f"{number % 3}/{number}.md", f"Note {number} was changed while nobody looked.")
    for number in range(40, 50):
        name = f"{number % 3}/{number}.md"
        (watched / name).unlink()
        del left[name]
    child = follower.start("publish_seconds=0.3")
    follower.wait_for(50, child)
    with (watched / "slow.md").open("w") as slow:  # never still for as long as it is written
        for part in range(12):
            slow.write(f"Part {part} of a text that is written slowly. ")
            slow.flush()
            time.sleep(0.03)
    left["slow.md"] = (watched / "slow.md").read_text().strip()
    (watched / "0" / "0.md").rename(watched / "renamed.md")
    left["renamed.md"] = left.pop("0/0.md")
    _until(lambda: follower.documents() == left)
    child.send_signal(signal.SIGTERM)
    assert child.wait(60) == 0
    check(follower, Workload(left=left))
    child = follower.start()
    put("last.md", "A last note that comes before the interrupt.")
    _until(lambda: "last.md" in {uri for uri, _, _ in _rows(follower.ledger)})
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    assert follower.documents() == left, "what was received is published before the end"
    for name in left:
        (watched / name).unlink()
    (watched / "only.md").write_text("The only note that is left in the folder now.")
    follower.drain(idle=0.5)
    assert list(follower.documents()) == ["only.md"]


def test_a_collection_may_become_empty_and_fill_again(tmp_path: Path) -> None:
    pytest.importorskip("chromadb")
    (tmp_path / "watched").mkdir()
    stream = {"kind": "folder", "root": str(tmp_path / "watched"), "interval": 0.05}
    follower = Follower(tmp_path / "run", stream, ("NONE", ""))
    note = tmp_path / "watched" / "a.md"
    note.write_text("hi")
    follower.drain(idle=0.4)
    assert not follower.out.exists() and "too_short" in follower.log.read_text()
    note.write_text("A note that is long enough to be kept.")
    follower.drain(idle=0.4)
    assert list(follower.documents()) == ["a.md"]
    note.unlink()
    follower.drain(idle=0.4)
    assert not follower.out.exists(), "what was deleted cannot be found any more"


def _rows(folder: Path) -> list[tuple[str, str, str]]:
    ledger = Ledger(folder)
    try:
        return list(ledger.rows())
    finally:
        ledger.close()


def test_a_kafka_topic_that_is_made_anew_is_read_from_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed("kafka")
    recipe = recipe_of(tmp_path, {"kind": "kafka"}, until_idle=1.5)
    for text in ("as it was", "as it is now"):  # the same offsets again, and no commits
        with servers.running("kafka", tmp_path / "server") as server:
            monkeypatch.setenv(server.variable, server.url)
            server.send([upsert(f"{number}", text) for number in range(9)])
            texts, counts, _ = followed(recipe)
            assert texts == dict.fromkeys(map(str, range(9)), text) and counts["late"] == 0


def test_a_ledger_has_one_writer_and_damage_is_one_line(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"kind": "folder", "root": str(tmp_path)}, until_idle=0.1)
    ledger = Ledger(tmp_path / "ledger", write=True)
    with pytest.raises(InputError, match="another process follows into"):
        followed(recipe)
    ledger.close()
    for file in (tmp_path / "ledger").iterdir():
        file.write_bytes(b"not a database " * 300)
    with pytest.raises(InputError, match=r"cannot be (used|read): file is not a database"):
        list(recipe.source.units(tmp_path))


def test_a_folder_that_goes_away_deletes_nothing(tmp_path: Path) -> None:
    watched = tmp_path / "watched"
    watched.mkdir()
    (watched / "a.md").write_text("A note that must not be lost.")
    recipe = recipe_of(
        tmp_path, {"kind": "folder", "root": str(watched), "interval": 0.05}, until_idle=0.3
    )
    assert len(followed(recipe)[0]) == 1
    watched.rename(tmp_path / "elsewhere")
    source = recipe.source.model_copy(update={"give_up_after": 0})
    with pytest.raises(MissingError, match="watched is not there; see to that"):
        followed(recipe.model_copy(update={"source": source}))
    assert len(_rows(tmp_path / "ledger")) == 1
    never = recipe_of(tmp_path / "other", {"kind": "folder", "root": str(watched)})
    with pytest.raises(InputError, match="watched is not a folder; create it first"):
        followed(never)


def test_only_streams_can_be_followed(llmctl: Any, tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"stage: ingest\nsource: {tmp_path}/docs\nout: {tmp_path}/out\n")
    done = llmctl("ingest", recipe, "--follow")
    assert done.returncode == 2
    assert "recipe.yaml:2:1: source: --follow needs a source of kind 'stream'" in done.stderr
