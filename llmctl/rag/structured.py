"""A question to a model whose answer is JSON of a known form."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from llmctl.errors import InputError, LlmctlError

if TYPE_CHECKING:
    from llmctl.engines.base import Session


def asked(
    session: Session | None,
    instruction: str,
    text: str,
    schema: dict[str, Any],
    max_tokens: int = 128,
) -> dict[str, Any]:
    """The model's answer; one that was cut, is no JSON or lacks a field is an error."""
    if session is None:
        raise InputError("needs a model: give the recipe's `retrieve` an `engine`")
    messages = [{"role": "system", "content": instruction}, {"role": "user", "content": text}]
    reply = session.chat(messages, schema=schema, max_tokens=max_tokens)
    try:
        found = json.loads(reply.text)
    except ValueError:
        raise LlmctlError(f"the model gave no JSON: {reply.text[:80]!r}") from None
    missing = [name for name in schema["required"] if name not in found]
    if missing:
        raise LlmctlError(f"the model's answer lacks {', '.join(missing)}")
    answer: dict[str, Any] = found
    return answer


def lines_schema(name: str, most: int) -> dict[str, Any]:
    """An object with a list of one to `most` texts under `name`."""
    return {
        "type": "object",
        "properties": {
            name: {
                "type": "array",
                "items": {"type": "string", "minLength": 1},
                "minItems": 1,
                "maxItems": most,
            }
        },
        "required": [name],
        "additionalProperties": False,
    }


def text_schema(name: str) -> dict[str, Any]:
    """An object with one text under `name`; its length is bounded by `max_tokens` alone.

    (A `maxLength` of hundreds becomes a grammar that slows llama.cpp down by orders.)
    """
    return {
        "type": "object",
        "properties": {name: {"type": "string", "minLength": 1}},
        "required": [name],
        "additionalProperties": False,
    }
