"""JSON Schema, the part that requests use: what is wrong with a value, in words for a model."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
}
BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minLength": lambda value, bound: not isinstance(value, str) or len(value) >= bound,
    "maxLength": lambda value, bound: not isinstance(value, str) or len(value) <= bound,
    "minItems": lambda value, bound: not isinstance(value, list) or len(value) >= bound,
    "maxItems": lambda value, bound: not isinstance(value, list) or len(value) <= bound,
    "minimum": lambda value, bound: not TYPES["number"](value) or value >= bound,
    "maximum": lambda value, bound: not TYPES["number"](value) or value <= bound,
    "pattern": lambda value, bound: not isinstance(value, str) or bool(re.search(bound, value)),
    "enum": lambda value, bound: any(equal(value, each) for each in bound),
    "const": lambda value, bound: equal(value, bound),
}
KNOWN = {*BOUNDS, "type", "properties", "required", "additionalProperties", "items",
         "title", "description"}  # fmt: skip


def equal(one: Any, other: Any) -> bool:
    """Equality as JSON has it: true is not 1."""
    return isinstance(one, bool) == isinstance(other, bool) and one == other


def problem(value: Any, schema: dict[str, Any]) -> str | None:
    """The first thing that is wrong with a value; None when it obeys the schema."""
    return next(problems(value, schema, "the reply"), None)


def problems(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Each thing that is wrong, the outermost first."""
    unknown = schema.keys() - KNOWN
    if unknown:
        raise ValueError(f"the check of forms does not know {', '.join(sorted(unknown))}")
    kind = schema.get("type")
    if kind is not None and not TYPES[kind](value):
        yield f"{where} is no {kind}"
        return
    for name, good in BOUNDS.items():
        if name in schema and not good(value, schema[name]):
            yield f"{where} does not have {name} {json.dumps(schema[name], ensure_ascii=False)}"
    if isinstance(value, dict):
        fields = schema.get("properties", {})
        for name in schema.get("required", ()):
            if name not in value:
                yield f"{where} lacks `{name}`"
        for name, each in value.items():
            if name in fields:
                yield from problems(each, fields[name], f"`{name}`")
            elif schema.get("additionalProperties") is False:
                yield f"{where} has `{name}`, which nobody asked for"
    if isinstance(value, list) and "items" in schema:
        for number, each in enumerate(value, 1):
            yield from problems(each, schema["items"], f"item {number} of {where}")


def record(**fields: dict[str, Any]) -> dict[str, Any]:
    """The schema of an object with exactly these fields."""
    return {
        "type": "object",
        "properties": fields,
        "required": list(fields),
        "additionalProperties": False,
    }


def texts(count: int | None = None, of: dict[str, Any] | None = None) -> dict[str, Any]:
    """The schema of a list of exactly `count` items, or of at least one; texts unless told."""
    bounds = {"minItems": count or 1} | ({"maxItems": count} if count else {})
    return {"type": "array", "items": of or TEXT, **bounds}


TEXT: dict[str, Any] = {"type": "string", "minLength": 1}
"""A text; its length is bounded by the tokens of the reply alone.

(A `maxLength` of hundreds becomes a grammar that slows llama.cpp down by orders.)
"""
