"""How the classes of recipes are built: what a key may hold, and what it holds by default."""

from __future__ import annotations

import types
import typing
from collections.abc import Collection, Sequence
from typing import Annotated, Any, get_args, get_origin

from pydantic import BaseModel

from llmctl.plugins import Backend, backend, is_promise, room_of


def options(annotation: Any) -> list[Any]:
    """The members of a union, or the annotation alone."""
    if get_origin(annotation) is Annotated:
        return options(get_args(annotation)[0])
    if get_origin(annotation) in (typing.Union, types.UnionType):
        return [o for each in get_args(annotation) for o in options(each)]
    return [annotation]


def model_of(annotation: Any, data: Any) -> type[BaseModel] | None:
    """The class whose keys a mapping has; of a backend, that of its kind."""
    for each in options(annotation):
        if isinstance(each, type) and issubclass(each, BaseModel):
            if is_promise(each):
                kind = data.get("kind") if isinstance(data, dict) else data
                try:
                    return backend(room_of(each), kind)  # type: ignore[arg-type]
                except Exception:  # an unknown kind is its own error
                    return each
            return each
    return None


def below(annotation: Any, data: Any, part: str | int) -> Any:
    """The annotation of what a value has at a key or a number."""
    if isinstance(part, int):
        items = [a for a in options(annotation) if get_origin(a) in (list, tuple)]
        return get_args(items[0])[0] if items else Any
    model = model_of(annotation, data)
    if model is not None and part in model.model_fields:
        return model.model_fields[part].annotation
    maps = [a for a in options(annotation) if get_origin(a) is dict]
    return get_args(maps[0])[1] if maps else Any


def on_defaults(
    annotation: Any, data: Any, path: Sequence[str], named: Collection[str], before: str = ""
) -> Any:
    """`data` with each default that the key `path` is inside of: a list, or a backend's kind.

    So that a key which `plan` shows as a default can be set. What is in short on the way is
    written in full. A backend whose kind is set, too (its dotted key is `named`), takes no default.
    """
    if isinstance(data, str):
        data = _in_full(annotation, data)
    if len(path) < 2:
        return data
    first, *rest = path
    key = f"{before}{first}"
    if isinstance(data, list):
        at = int(first) if first.isdigit() else len(data)
        return [
            on_defaults(below(annotation, data, at), each, rest, named, f"{key}.")
            if n == at else each
            for n, each in enumerate(data)
        ]  # fmt: skip
    value = data.get(first) if isinstance(data, dict) else None
    if value is None and f"{key}.kind" not in named:
        value = _default(annotation, data, first)
    filled = on_defaults(below(annotation, data, first), value, rest, named, f"{key}.")
    return data if filled is None else {**(data or {}), first: filled}


def _in_full(annotation: Any, text: str) -> Any:
    """The mapping that a text stands for, such as the kind of a backend."""
    for each in options(annotation):
        if hasattr(each, "in_full"):
            return each.in_full(text)
    return text


def _default(annotation: Any, data: Any, key: str) -> Any:
    """What a key holds when nothing is said, as a recipe would say it; None for a plain value."""
    model = model_of(annotation, data)
    field = model.model_fields.get(key) if model else None
    return _said(field.get_default(call_default_factory=True)) if field else None


def _said(value: Any) -> Any:
    if isinstance(value, BaseModel):
        said = value.model_dump(mode="json", exclude_unset=True)
        return {"kind": value.kind, **said} if isinstance(value, Backend) else said or None
    if isinstance(value, list | tuple):
        return [_said(each) if isinstance(each, BaseModel) else each for each in value]
    return None
