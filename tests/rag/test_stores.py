"""The promise of a store, tried on each kind; the server kind against a real server process."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
from servers import free_port, running_program

import llmctl.rag.stores
from llmctl.errors import InputError, LlmctlError, MissingError
from llmctl.plugins import kinds
from llmctl.rag import vectors
from llmctl.rag.collection import Snapshot
from llmctl.rag.stores.base import Store
from llmctl.rows import write_jsonl


@pytest.fixture(scope="module")
def chroma_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Chroma server on a port of its own."""
    pytest.importorskip("chromadb")
    program = shutil.which("chroma", path=str(Path(sys.executable).parent))
    assert program, "chroma is installed with chromadb"
    port, folder = free_port(), tmp_path_factory.mktemp("chroma")
    command = [program, "run", "--path", str(folder), "--port", str(port), "--host", "127.0.0.1"]
    with running_program(command, port, folder / "log"):
        yield {"kind": "chroma_http", "host": "127.0.0.1", "port": port}


@pytest.fixture(scope="module")
def qdrant_http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """See qdrant_server.py: real requests to Qdrant's engine behind a stand-in for the server."""
    pytest.importorskip("qdrant_client")
    pytest.importorskip("qdrant_edge")
    port, folder = free_port(), tmp_path_factory.mktemp("qdrant")
    program = str(Path(__file__).parent / "qdrant_server.py")
    command = [sys.executable, program, str(port), str(folder), "right"]
    with running_program(command, port, folder / "log"), pytest.MonkeyPatch.context() as patch:
        patch.setenv("QDRANT_KEY", "right")
        yield {
            "kind": "qdrant_http", "url": f"http://127.0.0.1:{port}", "api_key_env": "QDRANT_KEY"
        }  # fmt: skip


@pytest.fixture(scope="module")
def qdrant_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """The real server, where its program is installed."""
    pytest.importorskip("qdrant_client")
    program = shutil.which("qdrant")
    if program is None:
        pytest.skip("no program `qdrant` on PATH")
    port, folder = free_port(), tmp_path_factory.mktemp("qdrant-server")
    keys = {
        "SERVICE__HTTP_PORT": str(port),
        "SERVICE__GRPC_PORT": str(free_port()),
        "SERVICE__HOST": "127.0.0.1",
        "STORAGE__STORAGE_PATH": str(folder / "storage"),  # a package's own settings say /var/lib
        "STORAGE__SNAPSHOTS_PATH": str(folder / "snapshots"),
        "TELEMETRY_DISABLED": "true",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, value in keys.items():
            patch.setenv(f"QDRANT__{name}", value)
        with running_program([program], port, folder / "log", ready="/readyz"):
            yield {"kind": "qdrant_http", "url": f"http://127.0.0.1:{port}"}


@pytest.fixture
def described(request: pytest.FixtureRequest) -> Any:
    """The store of the test's parameter; a server kind with its server running."""
    kind = request.param
    if kind in ("chroma_http", "qdrant_http", "qdrant_server"):
        return request.getfixturevalue(kind)
    pytest.importorskip({"chroma": "chromadb", "qdrant": "qdrant_edge"}.get(kind, "numpy"))
    return {"kind": kind}


def snapshot(folder: Path, numbers: list[int], **keys: Any) -> Snapshot:
    """Chunks whose vector depends on their number alone."""
    folder.mkdir()
    rows = [
        {"id": f"c{n}", "text": f"text {n}", "start": 0, "end": 6, "source": {"uri": f"{n}.txt"}}
        for n in numbers
    ]
    write_jsonl(folder / "chunks.jsonl", rows)
    made = np.stack([np.random.default_rng(n).standard_normal(16) for n in numbers])
    np.save(folder / vectors.NAME, (made / np.linalg.norm(made, axis=1)[:, None]).astype("f4"))
    (folder / "store").mkdir()
    return Snapshot(folder, "owner", **keys)


@pytest.mark.parametrize("described", [*kinds(llmctl.rag.stores), "qdrant_server"], indirect=True)
def test_what_was_put_in_is_found_and_what_was_removed_is_not(
    described: dict[str, Any], tmp_path: Path
) -> None:
    store = Store.of(described)
    one = snapshot(tmp_path / "one", list(range(300)))
    store.write(one.folder / "store", one, lambda n: None)
    store.sweep(one.folder / "store", "owner")
    with store.open(one.folder / "store") as found:
        for row in (0, 7, 299):
            near = found.near(one.vectors[row], 5)
            assert near[0].id == f"c{row}" and abs(near[0].score - 1) < 1e-4 and len(near) == 5
            assert [n.score for n in near] == sorted((n.score for n in near), reverse=True)
        assert np.allclose(found.vectors(["c9", "c2"]), one.vectors[[9, 2]], atol=1e-5)
        assert {n.id for n in found.near(one.vectors[0], 9, {"c3", "c4"})} == {"c3", "c4"}
        assert found.near(one.vectors[0], 9, set()) == []
    numbers = [n for n in range(300) if n != 7] + [400]
    two = snapshot(tmp_path / "two", numbers, old=one.folder, removed=["c7"], added=[299])
    store.write(two.folder / "store", two, lambda n: None)
    with store.open(one.folder / "store") as before:  # the old one stays readable until the sweep
        assert before.near(one.vectors[7], 1)[0].id == "c7"
    store.sweep(two.folder / "store", "owner")
    with store.open(two.folder / "store") as after:
        assert after.near(one.vectors[7], 1)[0].id != "c7"
        assert after.near(two.vectors[299], 1)[0].id == "c400"
        assert len(after.near(two.vectors[0], 1000)) == 300
    if described["kind"].endswith("_http"):
        with pytest.raises(InputError, match="has no collection"), store.open(
            one.folder / "store"
        ):  # fmt: skip
            pass


def test_a_search_changes_no_byte_of_an_embedded_store(tmp_path: Path) -> None:
    pytest.importorskip("qdrant_edge")
    from llmctl import digest

    store = Store.of({"kind": "qdrant", "index_from": 50})
    one = snapshot(tmp_path / "one", list(range(300)))
    store.write(one.folder / "store", one, lambda n: None)
    before = digest.of_path(one.folder / "store")
    with store.open(one.folder / "store") as found:
        for row in range(0, 300, 10):
            assert found.near(one.vectors[row], 3)[0].id == f"c{row}"
        assert found.near(one.vectors[0], 3, {"c5"})[0].id == "c5"
    assert digest.of_path(one.folder / "store") == before


@pytest.mark.parametrize(
    ("described", "what"),
    [
        ({"kind": "chroma_http", "host": "127.0.0.1", "port": 9}, "Chroma"),
        ({"kind": "qdrant_http", "url": "http://127.0.0.1:9"}, "Qdrant"),
    ],
)
def test_a_server_that_is_not_there_is_one_line(
    described: dict[str, Any], what: str, tmp_path: Path
) -> None:
    pytest.importorskip({"Chroma": "chromadb", "Qdrant": "qdrant_client"}[what])
    store = Store.of(described)
    one = snapshot(tmp_path / "one", [1])
    with pytest.raises(LlmctlError, match=rf"the {what} server at http://127\.0\.0\.1:9 cannot be"):
        store.write(one.folder / "store", one, lambda n: None)


def test_a_key_is_sent_and_a_wrong_one_is_one_line(
    qdrant_http: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, one = Store.of(qdrant_http), snapshot(tmp_path / "one", [1, 2])
    store.write(one.folder / "store", one, lambda n: None)
    monkeypatch.setenv("QDRANT_KEY", "wrong")
    with pytest.raises(LlmctlError, match=r"Qdrant server at .* cannot be used: .*401"):
        store.write(one.folder / "store", one, lambda n: None)
    monkeypatch.delenv("QDRANT_KEY")
    with pytest.raises(MissingError, match="QDRANT_KEY is not set; export"):
        store.write(one.folder / "store", one, lambda n: None)


def test_a_token_is_sent_to_chroma(
    chroma_http: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chroma's own server asks for none since 1.0: a proxy in front of it does, as people do it."""
    with guarded(chroma_http["port"], "Bearer right") as port:
        store = Store.of(chroma_http | {"port": port, "token_env": "CHROMA_TOKEN"})
        one = snapshot(tmp_path / "one", [1, 2])
        monkeypatch.setenv("CHROMA_TOKEN", "right")
        store.write(one.folder / "store", one, lambda n: None)
        with store.open(one.folder / "store") as found:
            assert found.near(one.vectors[0], 1)[0].id == "c1"
        monkeypatch.setenv("CHROMA_TOKEN", "wrong")
        with pytest.raises(LlmctlError, match=r"the Chroma server at .* cannot be used"):
            store.write(one.folder / "store", one, lambda n: None)
        monkeypatch.delenv("CHROMA_TOKEN")
        with pytest.raises(MissingError, match="CHROMA_TOKEN is not set; export"):
            store.write(one.folder / "store", one, lambda n: None)


@contextmanager
def guarded(behind: int, wanted: str) -> Iterator[int]:
    """A proxy that passes on what has the right `authorization`; yields its port."""
    import http.client
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
    from threading import Thread

    class Proxy(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            status, data = 401, b'{"error": "unauthorized"}'
            if self.headers.get("authorization") == wanted:
                to = http.client.HTTPConnection("127.0.0.1", behind, timeout=30)
                with closing(to):
                    to.request(self.command, self.path, body, dict(self.headers))
                    found = to.getresponse()
                    status, data = found.status, found.read()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Proxy) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()
