"""The promise of a store, tried on each kind; the server kind against a real server process."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("chromadb")

from llmctl.errors import InputError, LlmctlError
from llmctl.rag import vectors
from llmctl.rag.collection import Snapshot
from llmctl.rag.stores.base import Store
from llmctl.rows import write_jsonl


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A Chroma server on a port of its own."""
    program = shutil.which("chroma", path=str(Path(sys.executable).parent))
    assert program, "chroma is installed with chromadb"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    folder = tmp_path_factory.mktemp("chroma")
    command = [program, "run", "--path", str(folder), "--port", str(port), "--host", "127.0.0.1"]
    with (folder / "log").open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log)
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end:
                with socket.socket() as probe:
                    if probe.connect_ex(("127.0.0.1", port)) == 0:
                        break
                assert child.poll() is None, (folder / "log").read_text()
                time.sleep(0.1)
            yield {"kind": "chroma_http", "host": "127.0.0.1", "port": port}
        finally:
            child.kill()
            child.wait()


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


@pytest.mark.parametrize("kind", ["exact", "chroma", "chroma_http"])
def test_what_was_put_in_is_found_and_what_was_removed_is_not(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    described = request.getfixturevalue("server") if kind == "chroma_http" else kind
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
    if kind == "chroma_http":
        with pytest.raises(InputError, match="has no collection"), store.open(
            one.folder / "store"
        ):  # fmt: skip
            pass


def test_a_server_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    store = Store.of({"kind": "chroma_http", "host": "127.0.0.1", "port": 9})
    one = snapshot(tmp_path / "one", [1])
    with pytest.raises(LlmctlError, match=r"the Chroma server at http://127\.0\.0\.1:9 cannot be"):
        store.write(one.folder / "store", one, lambda n: None)
