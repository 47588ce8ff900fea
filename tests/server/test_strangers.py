"""An address that is no engine's, as a wrong `base_url` names it: an error, no page passed on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi")
import httpx

from llmctl.engines.openai import HttpSession
from llmctl.schema.serve import ServeRecipe
from llmctl.server import app as application
from llmctl.server.traces import Traces

PAGES = {
    "page": (b"<html>hello</html>", "text/html"),
    "list": (b"[1]", "application/json"),
    "no choices": (b'{"choices": []}', "application/json"),
    "no message": (b'{"choices": [{"message": null}]}', "application/json"),
    "nothing": (b"", "text/event-stream"),
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("page", PAGES)
def test_what_is_no_answer_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, page: str, stream: bool
) -> None:
    content, kind = PAGES[page]

    async def coming() -> AsyncIterator[bytes]:
        if content:
            yield content

    transport = httpx.MockTransport(
        lambda _: httpx.Response(200, content=coming(), headers={"content-type": kind})
    )
    there = httpx.AsyncClient(transport=transport)
    monkeypatch.setattr(application.httpx, "AsyncClient", lambda **_: there)
    recipe = ServeRecipe.model_validate(
        {"stage": "serve", "out": "none", "name": "m", "engine": "echo"}
    )
    traces = Traces(tmp_path / "traces.sqlite", content=False)
    session = HttpSession(httpx.Client(), "http://elsewhere", "x", retries=0)
    app: Any = application.create(recipe, session, traces, None, None)
    monkeypatch.undo()
    asked = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}

    async def ask() -> httpx.Response:
        here = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=here, base_url="http://127.0.0.1") as client:
            return await client.post("/v1/chat/completions", json=asked)

    answer = asyncio.run(ask())
    assert answer.status_code == 502
    assert "is its `base_url` right?" in answer.json()["error"]["message"]
    assert traces.totals()["failed"] == 1
    traces.close()
