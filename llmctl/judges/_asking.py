"""Asking a model for JSON of a known form: many at once, repaired once, never guessed."""

from __future__ import annotations

import json
import sys
import threading
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmctl.engines.base import Engine, Reply, Request, Session, in_order
from llmctl.generation.asking import Refused, checked
from llmctl.generation.spending import CallError

FAILURES_IN_A_ROW = 20
"""So many calls failing one after another is no accident of single items: the run stops."""


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
        yield from in_order(self.one, requests, self.session.concurrency, self._stop)

    def _stop(self) -> None:
        # a reader that took all it wanted leaves, too, and the session may be asked again
        if sys.exc_info()[0] is not GeneratorExit:
            self.session.close()

    def one(self, request: Request) -> Said:
        """Ask; a reply out of form is asked for once more, with what was wrong."""
        try:
            reply = self._call(request)
            wrong = fault(reply, request.schema or {})
            if wrong:
                self._note_repair()
                request = repair(request, reply, wrong)
                reply = self._call(request)
                # a reason that comes all the same does no harm
                wrong = fault(reply, {**(request.schema or {}), "additionalProperties": True})
        except CallError as error:
            with self._lock:
                self._failed += 1
                if self._failed >= FAILURES_IN_A_ROW:
                    raise
            return Said(None, f"the call failed: {error}")
        self._failed = 0
        if not wrong:
            return Said(json.loads(reply.text))
        if reply.finish_reason != "length":  # as generation.asking does
            self.session.forget(**vars(request))
        return Said(None, f"not in form: {wrong}")

    def _note_repair(self) -> None:
        with self._lock:
            self.usage["repaired"] += 1
        if self.session.spending is not None:
            self.session.spending.note("repairs")

    def _call(self, request: Request) -> Reply:
        reply = self.session.chat(**vars(request))
        with self._lock:
            self.usage.update(
                calls=1,
                cached_calls=int(reply.cached),
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )
        return reply


def repair(request: Request, reply: Reply, wrong: str) -> Request:
    """The request that follows a reply out of form: the verdict alone, without its reason.

    After a reason that was cut off the conversation is the same: what it said is of no use, and a
    model that has just read the prompt need not read it again.
    """
    schema = without_reason(request.schema or {})
    if reply.finish_reason == "length" and schema != request.schema:
        return replace(request, schema=schema)
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
    fields: dict[str, Any] = {"reason": {"type": "string"}} if reasoned else {}
    fields[name] = {"type": kind, "enum": list(allowed)}
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def fault(reply: Reply, schema: dict[str, Any]) -> str:
    """What is wrong with a reply; empty when it is in form."""
    try:
        checked(reply, schema)
    except Refused as refused:
        return refused.detail if refused.reason == "reply_not_in_form" else str(refused)
    return ""


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
