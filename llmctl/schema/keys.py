"""Every key of a stage's recipe, for completion, documentation and tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmctl.plugins import backend, holds, is_promise, kinds, room_of
from llmctl.schema.base import schema_of
from llmctl.schema.shape import options


def fields(stage: str) -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    """(key, owner, field) of every key; a backend's are `field[kind].key`."""
    yield from _fields(schema_of(stage), "")


Rooms = tuple[type, ...]


def _fields(
    model: type[BaseModel], prefix: str, rooms: Rooms = ()
) -> Iterator[tuple[str, type[BaseModel], FieldInfo]]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = list(_inside(info.annotation, key, rooms))
        if not inner or any(below != key + "." for below, _, _ in inner):
            yield key, model, info  # a group has no value of its own; a choice of kinds has one
        for below, part, around in inner:
            yield from _fields(part, below, around)


def _inside(
    annotation: Any, key: str, rooms: Rooms
) -> Iterator[tuple[str, type[BaseModel], Rooms]]:
    for each in options(annotation):
        if isinstance(each, type) and is_promise(each):
            room = room_of(each)
            for kind in kinds(room):
                part = backend(room, kind)
                if not (each in rooms and holds(part, each)):  # as in the JSON Schema
                    yield f"{key}[{kind}].", part, (*rooms, each)
        elif isinstance(each, type) and issubclass(each, BaseModel):
            yield f"{key}.", each, rooms
        elif get_origin(each) in (list, tuple):
            yield from _inside(get_args(each)[0], key, rooms)
        elif get_origin(each) is dict:
            yield from _inside(get_args(each)[1], key, rooms)


def dotted_keys(stage: str) -> list[str]:
    """The keys as `--set` takes them: `chunker.max_chars`."""
    return sorted({re.sub(r"\[\w+\]", "", key) for key, _, _ in fields(stage)})
