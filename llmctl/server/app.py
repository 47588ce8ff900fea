"""The application: OpenAI's routes in front of any engine, with documents, traces and feedback."""

from __future__ import annotations

import asyncio
import hmac
import itertools
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from starlette.requests import ClientDisconnect

from llmctl.engines.base import Request as EngineRequest
from llmctl.engines.base import Session
from llmctl.engines.openai import HttpSession
from llmctl.errors import LlmctlError
from llmctl.schema.serve import ServeRecipe, is_loopback
from llmctl.server.documents import Documents, with_sources
from llmctl.server.requests import Refused, checked
from llmctl.server.traces import Trace, Traces
from llmctl.server.underway import Stream, UnderWay

STATIC = Path(__file__).parent / "static"
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'"
NEUTRAL = {
    "logprobs": False,
    "top_logprobs": 0,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "top_p": 1,
}
"""What an engine in this process cannot change, with the value that asks for no change."""
OPEN = {"/health", "/", "/page.js", "/page.css"}
"""Paths that need no key."""


def create(
    recipe: ServeRecipe,
    session: Session,
    traces: Traces,
    documents: Documents | None,
    key: str | None,
) -> FastAPI:
    """The application for one engine session."""
    upstream = httpx.AsyncClient(timeout=None, limits=httpx.Limits(max_connections=None))

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        await upstream.aclose()

    app = FastAPI(title="llmctl", lifespan=life, docs_url=None, redoc_url=None, openapi_url=None)
    under_way = UnderWay(recipe.limits.requests, recipe.name, traces)
    seeds = itertools.count(recipe.seed)
    started = int(time.time())

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            check_host(request, recipe.host)
            if key is not None and request.url.path not in OPEN:
                check_key(request, key)
            length = request.headers.get("content-length", "0")
            if not length.isdigit() or int(length) > recipe.limits.body_bytes:
                raise Refused(413, f"the body may have {recipe.limits.body_bytes} bytes at most")
        except Refused as refused:
            return answer_refused(refused)
        return await call(request)

    @app.exception_handler(Refused)
    async def _refused(_: Request, refused: Refused) -> Response:
        return answer_refused(refused)

    @app.exception_handler(404)
    async def _no_route(request: Request, _: Exception) -> Response:
        return answer_refused(Refused(404, f"no such path: {request.url.path}"))

    @app.exception_handler(405)
    async def _no_method(request: Request, _: Exception) -> Response:
        return answer_refused(
            Refused(405, f"{request.url.path} does not answer to {request.method}")
        )

    @app.exception_handler(Exception)
    async def _our_mistake(_: Request, __: Exception) -> Response:
        return answer_refused(Refused(500, "the server made a mistake; its log tells where"))

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        model = {"id": recipe.name, "object": "model", "created": started, "owned_by": "llmctl"}
        return {"object": "list", "data": [model]}

    @app.get("/metrics")
    async def metrics() -> Response:
        lines = [f"llmctl_{name}_total {value}" for name, value in traces.totals().items()]
        lines.append(f"llmctl_requests_under_way {under_way.count}")
        return Response("\n".join(lines) + "\n", media_type="text/plain")

    @app.post("/v1/feedback")
    async def feedback(request: Request) -> dict[str, str]:
        body = await read_json(request, recipe.limits.body_bytes)
        asked = body.get("request_id") if isinstance(body, dict) else None
        if not isinstance(asked, str) or body.get("rating") not in (1, -1):
            raise Refused(400, "feedback needs `request_id` and `rating` 1 or -1")
        texts = [body.get(name) for name in ("comment", "correction")]
        if any(text is not None and not isinstance(text, str) for text in texts):
            raise Refused(400, "`comment` and `correction` are texts")
        known = traces.add_feedback(asked, time.time(), body["rating"], texts[0], texts[1])
        if not known:
            raise Refused(404, f"no request {asked!r} was answered here")
        return {"status": "kept"}

    async def read(request: Request, trace: Trace) -> dict[str, Any]:
        """A chat request that may be passed on, with the sources of its question."""
        raw = await read_json(request, recipe.limits.body_bytes)
        body = checked(raw, recipe.name, recipe.limits.max_tokens, session.choices)
        trace.messages, trace.stream = body["messages"], bool(body.get("stream"))
        if documents is not None:
            trace.sources = await asyncio.to_thread(documents.sources, body["messages"])
            body["messages"] = with_sources(body["messages"], trace.sources)
        return body

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Response:
        async with AsyncExitStack() as place:
            trace = place.enter_context(under_way.place("chat", "chatcmpl"))
            body = await read(request, trace)
            # another answer each time that the same is asked, the same ones after a restart
            body.setdefault("seed", next(seeds) % 2**31)
            if trace.stream:
                events = (
                    passed_through(upstream, session, body, trace)
                    if isinstance(session, HttpSession)
                    else generated(session, body, trace)
                )
                place.push_async_callback(events.aclose)  # the engine stops, too
                first = await anext(events, None)  # an error before it is a proper status
                if first is None:
                    raise not_openais()
                shown = finishing(first, events, trace, documents is not None)
                return Stream(shown, trace, place.pop_all())
            if isinstance(session, HttpSession):
                reply = await passed_on(upstream, session, body, trace)
            else:
                reply = await asyncio.to_thread(whole, session, body, trace)
            reply.update(id=trace.id, model=recipe.name)
            if documents is not None:
                reply["sources"] = trace.sources
            trace.answer = reply["choices"][0]["message"].get("content")
            return JSONResponse(reply, headers={"x-request-id": trace.id})

    @app.post("/tokenize")
    async def tokenize(request: Request) -> dict[str, Any]:
        with under_way.place("tokenize", "tokens") as trace:
            body = await read(request, trace)
            try:
                found = await asyncio.to_thread(session.prompt_tokens, body["messages"])
            except LlmctlError as error:
                raise Refused(400, str(error)) from None
            except NotImplementedError:
                raise Refused(501, "this engine does not tell its tokens") from None
            return {"count": len(found), "tokens": found}

    @app.get("/")
    async def page() -> Response:
        headers = {"content-security-policy": POLICY, "x-content-type-options": "nosniff"}
        return FileResponse(STATIC / "page.html", headers=headers)

    @app.get("/page.js")
    async def script() -> Response:
        return FileResponse(STATIC / "page.js", media_type="text/javascript")

    @app.get("/page.css")
    async def style() -> Response:
        return FileResponse(STATIC / "page.css", media_type="text/css")

    return app


def answer_refused(refused: Refused) -> Response:
    """An error response; 429 says when to come back."""
    headers = {"retry-after": "1"} if refused.status == 429 else {}
    return JSONResponse(refused.body(), refused.status, headers=headers)


def check_host(request: Request, host: str) -> None:
    """On loopback, refuse names that are not this machine's (DNS rebinding)."""
    named = request.url.hostname or ""
    if is_loopback(host) and not is_loopback(named):
        raise Refused(403, f"the host {named!r} is not served here")


def check_key(request: Request, key: str) -> None:
    """Compare the bearer key in constant time."""
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    right = hmac.compare_digest(given.strip().encode(), key.encode())
    if scheme.lower() != "bearer" or not right:
        raise Refused(401, "the API key is missing or wrong", "invalid_api_key")


async def read_json(request: Request, limit: int) -> Any:
    """The body as JSON; also a chunked body is limited."""
    data = b""
    try:
        async for part in request.stream():
            data += part
            if len(data) > limit:
                raise Refused(413, f"the body may have {limit} bytes at most")
    except ClientDisconnect:  # nobody is there to read this
        raise Refused(400, "the client went away before its request was whole") from None
    try:
        body = json.loads(data)
        if b"\\u" in data:
            json.dumps(body, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise Refused(400, "the body has half a surrogate pair, which is no text") from None
    except (ValueError, RecursionError):
        raise Refused(400, "the body is not valid JSON") from None
    return body


def refused_by_engine(status: int, data: bytes) -> Refused:
    """The engine's error in OpenAI's form."""
    try:
        error = json.loads(data)["error"]
        message, kind = str(error.get("message")), error.get("type")
    except (ValueError, KeyError, TypeError, AttributeError):
        message, kind = data.decode(errors="replace")[:300], None
    code = "context_length_exceeded" if kind == "exceed_context_size_error" else None
    return Refused(status if 400 <= status < 600 else 502, message, code)


async def passed_on(
    upstream: httpx.AsyncClient, session: HttpSession, body: dict[str, Any], trace: Trace
) -> dict[str, Any]:
    """One call of an engine that speaks HTTP."""
    try:
        response = await upstream.post(
            f"{session.base_url}/chat/completions",
            json={**body, "model": session.model},
            headers=dict(session.headers),
        )
    except httpx.TransportError as error:
        raise Refused(502, f"the engine does not answer ({type(error).__name__})") from None
    if response.status_code != 200:
        raise refused_by_engine(response.status_code, response.content)
    reply = answer_in(response)
    count_tokens(trace, reply.get("usage"))
    return reply


def answer_in(response: httpx.Response) -> dict[str, Any]:
    """The answer of an engine, which may be any page that somebody took for one."""
    try:
        reply: dict[str, Any] = response.json()
        if isinstance(reply["choices"][0]["message"], dict):
            return reply
    except (ValueError, LookupError, TypeError):
        pass
    raise not_openais()


def not_openais() -> Refused:
    """What answers is no engine, or another one than the recipe's `base_url` was to name."""
    return Refused(502, "the engine does not answer in OpenAI's form; is its `base_url` right?")


def count_tokens(trace: Trace, usage: Any) -> None:
    """Take the token counts of an answer."""
    if isinstance(usage, dict):
        trace.prompt_tokens = int(usage.get("prompt_tokens") or 0)
        trace.completion_tokens = int(usage.get("completion_tokens") or 0)


async def passed_through(
    upstream: httpx.AsyncClient, session: HttpSession, body: dict[str, Any], trace: Trace
) -> AsyncGenerator[bytes]:
    """The engine's event stream under this server's id and model name; read for the trace."""
    request = upstream.build_request(
        "POST",
        f"{session.base_url}/chat/completions",
        json={**body, "model": session.model},
        headers=dict(session.headers),
    )
    try:
        response = await upstream.send(request, stream=True)
    except httpx.TransportError as error:
        raise Refused(502, f"the engine does not answer ({type(error).__name__})") from None
    try:
        if response.status_code != 200:
            raise refused_by_engine(response.status_code, await response.aread())
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            raise not_openais()
        rest = b""
        async for part in response.aiter_raw():
            *events, rest = (rest + part).replace(b"\r\n", b"\n").split(b"\n\n")
            if events:
                yield b"".join(renamed(event, trace) + b"\n\n" for event in events)
        if rest:
            yield rest
    finally:
        await response.aclose()


def renamed(event: bytes, trace: Trace) -> bytes:
    """An event as this server's own, its counts and text taken; an engine's names stay inside.

    llama.cpp names a model by its file, and its id is not the one that feedback is given to.
    """
    if not event.startswith(b"data: {"):
        return event
    try:
        chunk = json.loads(event[6:])
    except ValueError:
        return event
    count_tokens(trace, chunk.get("usage"))
    for choice in chunk.get("choices") or ():
        text = (choice.get("delta") or {}).get("content")
        if text:
            trace.answer = (trace.answer or "") + text
            if trace.first_token_seconds is None:
                trace.first_token_seconds = time.time() - trace.started
    if "choices" in chunk:  # not an error
        chunk |= {"id": trace.id, "model": trace.model}
    return b"data: " + json.dumps(chunk, ensure_ascii=False).encode()


def engine_request(body: dict[str, Any]) -> EngineRequest:
    """A chat request for an engine in this process; what it cannot do is refused."""
    for name, neutral in NEUTRAL.items():
        if body.get(name, neutral) != neutral:
            raise Refused(400, f"this engine does not support {name}", None, name)
    form = body.get("response_format") or {}
    schema = None
    if form.get("type") == "json_schema":
        schema = (form.get("json_schema") or {}).get("schema")
    elif form.get("type") not in (None, "text"):
        raise Refused(400, "this engine supports no such response_format", None, "response_format")
    return EngineRequest(
        body["messages"],
        schema,
        body["max_tokens"],
        float(body.get("temperature", 1.0)),
        int(body.get("seed", 0)),
        body.get("stop", []),
    )


def whole(session: Session, body: dict[str, Any], trace: Trace) -> dict[str, Any]:
    """One answer of an engine in this process."""
    try:
        reply = session.answer(engine_request(body))
    except LlmctlError as error:
        raise Refused(400, str(error)) from None
    usage = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": reply.completion_tokens,
        "total_tokens": reply.prompt_tokens + reply.completion_tokens,
    }
    count_tokens(trace, usage)
    message = {"role": "assistant", "content": reply.text}
    choice = {"index": 0, "message": message, "finish_reason": reply.finish_reason}
    return {
        "object": "chat.completion",
        "created": int(time.time()),
        "choices": [choice],
        "usage": usage,
    }


async def generated(session: Session, body: dict[str, Any], trace: Trace) -> AsyncGenerator[bytes]:
    """The tokens of an engine in this process as an event stream."""
    request = engine_request(body)
    stream = getattr(session, "stream", None)
    pieces = stream(request) if stream else iter([(None, session.answer(request))])
    base = {"id": trace.id, "object": "chat.completion.chunk", "created": int(trace.started)}
    base["model"] = trace.model

    def event(delta: dict[str, Any], finish: str | None = None, **more: Any) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish}
        data = json.dumps({**base, "choices": [choice], **more}, ensure_ascii=False)
        return f"data: {data}\n\n".encode()

    reply = None
    first = True
    while True:
        try:
            each = await asyncio.to_thread(next, pieces, None)
        except LlmctlError as error:
            raise Refused(400, str(error)) from None
        if each is None:
            break
        text, reply = each
        text = reply.text if text is None else text
        if text:
            if first:
                trace.first_token_seconds = time.time() - trace.started
                yield event({"role": "assistant", "content": ""})
                first = False
            trace.answer = (trace.answer or "") + text
            yield event({"content": text})
    assert reply is not None
    trace.prompt_tokens, trace.completion_tokens = reply.prompt_tokens, reply.completion_tokens
    yield event({}, reply.finish_reason or "stop")
    if (body.get("stream_options") or {}).get("include_usage"):
        usage = {
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "total_tokens": reply.prompt_tokens + reply.completion_tokens,
        }
        data = json.dumps({**base, "choices": [], "usage": usage})
        yield f"data: {data}\n\n".encode()
    yield b"data: [DONE]\n\n"


async def finishing(
    first: bytes, events: AsyncIterator[bytes], trace: Trace, with_documents: bool
) -> AsyncIterator[bytes]:
    """The stream with the sources as its first event; an error on the way is an event too."""
    if with_documents:
        head = {
            "id": trace.id,
            "object": "chat.completion.chunk",
            "created": int(trace.started),
            "model": trace.model,
            "choices": [],
            "sources": trace.sources,
        }
        yield f"data: {json.dumps(head, ensure_ascii=False)}\n\n".encode()
    yield first
    try:
        async for part in events:
            yield part
    except Refused as refused:
        trace.status, trace.error = refused.status, str(refused)
        yield f"data: {json.dumps(refused.body())}\n\n".encode()
