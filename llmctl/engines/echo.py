"""Answers from its input, with no model: for tests of what is around a model, and for dry runs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import Field

from llmctl.engines.base import Engine, Reply, Request, Session


class EchoEngine(Engine):
    """The last user message comes back; a JSON Schema is filled with pieces of it."""

    prefix: str = Field("", description="Text in front of every answer.")

    @contextmanager
    def start(self) -> Iterator[Session]:
        """Nothing to start."""
        yield EchoSession(self.prefix)


class EchoSession(Session):
    """Deterministic; a token is a word."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.name = f"echo:{prefix}"

    def answer(self, request: Request) -> Reply:
        """See EchoEngine."""
        said = next((m["content"] for m in reversed(request.messages) if m["role"] == "user"), "")
        words = said.split()
        if request.schema is not None:
            text = json.dumps(filled(request.schema, words), ensure_ascii=False)
        else:
            text = self.prefix + said
        tokens = text.split()
        cut = len(tokens) > request.max_tokens and request.schema is None
        if cut:
            text = " ".join(tokens[: request.max_tokens])
        count = sum(len(m["content"].split()) for m in request.messages)
        done = min(len(tokens), request.max_tokens) if cut else len(tokens)
        return Reply(text, count, done, "length" if cut else "stop")


def filled(schema: dict[str, Any], words: list[str], depth: int = 0) -> Any:
    """A value that obeys a JSON Schema of objects, arrays and scalars, made of `words`."""
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind == "object":
        return {
            name: filled(part, words[number * 7 :] or words, depth + 1)
            for number, (name, part) in enumerate(schema.get("properties", {}).items())
        }
    if kind == "array":
        count = max(1, schema.get("minItems", 1))
        items = schema.get("items", {})
        return [filled(items, words[n * 5 :] or words, depth) for n in range(count)]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    text = " ".join(words[:24]) or "nothing"
    return text[: schema.get("maxLength", len(text))]
