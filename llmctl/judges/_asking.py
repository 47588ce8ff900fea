"""Asking a model for JSON of a known form: many at once, repaired once, never guessed."""

from __future__ import annotations

import json
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from llmctl.engines.base import Engine, Reply, Request, Session
from llmctl.errors import LlmctlError

FAILURES_IN_A_ROW = 20
"""So many calls failing one after another is no accident of single items: the run stops."""
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Said:
    """What a model answered, or why that cannot be used."""

    value: dict[str, Any] | None
    why_not: str = ""


class Asker:
    """A model that is asked in enforced form; counts its calls in `usage`."""

    def __init__(self, session: Session, usage: Counter[str]) -> None:
        self.session = session
        self.usage = usage
        self._lock = threading.Lock()
        self._failed = 0

    def each(self, requests: Iterable[Request]) -> Iterator[Said]:
        """What was said to each request, in order, as many at once as the engine takes."""
        yield from in_order(self.one, requests, self.session.concurrency)

    def one(self, request: Request) -> Said:
        """Ask; a reply out of form is asked for once more, with what was wrong."""
        try:
            reply = self._call(request)
            wrong = fault(reply, request.schema or {})
            if wrong:
                with self._lock:
                    self.usage["repaired"] += 1
                reply = self._call(repair(request, reply, wrong))
                wrong = fault(reply, request.schema or {}, reasoned=False)
        except LlmctlError as error:
            with self._lock:
                self._failed += 1
                if self._failed >= FAILURES_IN_A_ROW:
                    raise
            return Said(None, f"the call failed: {error}")
        self._failed = 0
        if wrong:
            return Said(None, f"not in form: {wrong}")
        found = json.loads(reply.text)
        return Said(found)

    def _call(self, request: Request) -> Reply:
        options = {
            key: getattr(request, key)
            for key in ("schema", "max_tokens", "temperature", "seed", "stop")
        }
        reply = self.session.chat(request.messages, **options)
        with self._lock:
            self.usage.update(
                calls=1,
                cached_calls=int(reply.cached),
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )
        return reply


def repair(request: Request, reply: Reply, wrong: str) -> Request:
    """The request that follows a reply out of form: the verdict alone, without its reason."""
    schema = without_reason(request.schema or {})
    messages = [
        *request.messages,
        {"role": "assistant", "content": reply.text[:2000]},
        {
            "role": "user",
            "content": f"That was not in form ({wrong}). Give only the JSON object with "
            + " and ".join(schema["required"])
            + ".",
        },
    ]
    return replace(request, messages=messages, schema=schema)


def without_reason(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a verdict alone."""
    fields = {name: part for name, part in schema["properties"].items() if name != "reason"}
    return {**schema, "properties": fields, "required": list(fields)}


def verdict_schema(name: str, allowed: Sequence[Any], *, reasoned: bool) -> dict[str, Any]:
    """An object with `reason` first, if asked for, and then one of the allowed values.

    The reason's length is bounded by the tokens of the reply: a `maxLength` of hundreds becomes a
    grammar that slows llama.cpp down by orders.
    """
    kind = "integer" if isinstance(allowed[0], int) else "string"
    fields: dict[str, Any] = {"reason": {"type": "string", "minLength": 1}} if reasoned else {}
    fields[name] = {"type": kind, "enum": list(allowed)}
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def fault(reply: Reply, schema: dict[str, Any], *, reasoned: bool = True) -> str:
    """What is wrong with a reply; empty when it is in form."""
    if reply.finish_reason == "length":
        return f"cut off after {reply.completion_tokens} tokens"
    try:
        found = json.loads(reply.text)
    except ValueError:
        return "no JSON"
    if not isinstance(found, dict):
        return f"a {type(found).__name__}, not an object"
    for name, part in schema["properties"].items():
        if name not in found:
            if name == "reason" and not reasoned:
                continue
            return f"lacks `{name}`"
        allowed = part.get("enum")
        value = found[name]
        if allowed and (isinstance(value, bool) or value not in allowed):
            return f"`{name}` is {value!r:.40}"
    return ""


def in_order(work: Callable[[T], R], items: Iterable[T], concurrency: int) -> Iterator[R]:
    """`work` of each item, in order, `concurrency` at a time and not far ahead of the reader."""
    if concurrency == 1:
        yield from map(work, items)
        return
    with ThreadPoolExecutor(concurrency) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for each in waiting:  # the reader went away: what has not begun is not begun
                each.cancel()


@dataclass
class _Open:
    """An engine that runs, and how many judges use it."""

    engine: Engine
    cache: Path | None
    session: Session
    stack: ExitStack
    users: int = 0


_running: list[_Open] = []
_running_lock = threading.Lock()


@contextmanager
def shared(engine: Engine, cache: Path | None) -> Iterator[Session]:
    """The engine's session; judges that are open at the same time share one of equal engines."""
    with _running_lock:
        found = next((o for o in _running if o.engine == engine and o.cache == cache), None)
        if found is None:
            stack = ExitStack()
            found = _Open(engine, cache, stack.enter_context(engine.open(cache)), stack)
            _running.append(found)
        found.users += 1
    try:
        yield found.session
    finally:
        with _running_lock:
            found.users -= 1
            if not found.users:
                _running.remove(found)
                found.stack.close()
