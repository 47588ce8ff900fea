"""Places among the requests under way: who has one, who gets none, and when it is left."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
import httpx

from llmctl.engines.echo import EchoSession
from llmctl.schema.serve import ServeRecipe
from llmctl.server.app import create
from llmctl.server.traces import Traces

ASKED = {"model": "m", "messages": [{"role": "user", "content": "a word"}]}


class Held(EchoSession):
    """An engine that answers when it is let go."""

    def __init__(self) -> None:
        super().__init__("")
        self.began = threading.Event()
        self.let_go = threading.Event()

    def prompt_tokens(self, messages: list[dict[str, str]]) -> list[int]:
        """As many numbers as there are messages."""
        self.began.set()
        assert self.let_go.wait(10)
        return list(range(len(messages)))


@pytest.fixture
def traces(tmp_path: Path) -> Iterator[Traces]:
    """An empty database."""
    opened = Traces(tmp_path / "traces.sqlite", content=False)
    yield opened
    opened.close()


def application(traces: Traces, session: EchoSession, requests: int = 1) -> Any:
    recipe = {"stage": "serve", "out": "none", "name": "m", "engine": "echo"}
    recipe["limits"] = {"requests": requests}  # type: ignore[assignment]
    return create(ServeRecipe.model_validate(recipe), session, traces, None, None)


async def posted(app: Any, path: str) -> httpx.Response:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        return await client.post(path, json=ASKED)


def test_tokens_have_a_place_as_answers_have(traces: Traces) -> None:
    engine = Held()

    async def ask() -> tuple[httpx.Response, list[httpx.Response]]:
        app = application(traces, engine)
        first = asyncio.create_task(posted(app, "/tokenize"))
        assert await asyncio.to_thread(engine.began.wait, 10)
        others = [await posted(app, path) for path in ("/tokenize", "/v1/chat/completions")]
        engine.let_go.set()
        return await first, others

    told, refused = asyncio.run(ask())
    assert told.json() == {"count": 1, "tokens": [0]}
    for each in refused:
        assert (each.status_code, each.headers["retry-after"]) == (429, "1")
        assert each.json()["error"]["code"] == "busy"
    assert traces.totals()["requests"] == 1 and traces.totals()["failed"] == 0


@pytest.mark.parametrize("sent", [0, 1])
def test_a_client_that_hangs_up_leaves_its_place(traces: Traces, sent: int) -> None:
    """Before the first event, and in the middle of a stream."""
    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},  # as uvicorn has it
        "path": "/v1/chat/completions", "raw_path": b"", "query_string": b"", "root_path": "",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": None,
    }  # fmt: skip
    body = json.dumps({**ASKED, "stream": True}).encode()

    async def hang_up() -> httpx.Response:
        app = application(traces, EchoSession(""))
        coming = [{"type": "http.request", "body": body, "more_body": False}]
        heard: list[dict[str, Any]] = []
        enough = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if not coming and sent:
                await enough.wait()
            return coming.pop() if coming else {"type": "http.disconnect"}

        async def send(message: dict[str, Any]) -> None:
            heard.append(message)
            if len(heard) > sent:
                enough.set()
                await asyncio.sleep(0)

        called: Callable[..., Awaitable[None]] = app
        await called(scope, receive, send)
        return await posted(app, "/v1/chat/completions")

    assert asyncio.run(hang_up()).status_code == 200
    assert traces.totals()["requests"] == 2
