"""Every key of a stage's recipe, for completion, documentation and tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from llmctl.plugins import backend, is_promise, kinds, room_of
from llmctl.schema.base import _options, schema_of


def fields(stage: str) -> Iterator[tuple[str, FieldInfo]]:
    """(key, field) of a stage; a backend's keys are `field[kind].key`, a list's `field.0.key`."""
    yield from _fields(schema_of(stage), "")


def _fields(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, FieldInfo]]:
    for name, info in model.model_fields.items():
        key = f"{prefix}{name}"
        inner = list(_inside(info.annotation, key))
        if not inner or not all(k == key + "." for k, _ in inner):
            yield key, info  # a group has no value of its own; a choice of kinds has one
        for below, part in inner:
            yield from _fields(part, below)


def _inside(annotation: Any, key: str) -> Iterator[tuple[str, type[BaseModel]]]:
    for each in _options(annotation):
        if isinstance(each, type) and is_promise(each):
            room = room_of(each)
            for kind in kinds(room):
                yield f"{key}[{kind}].", backend(room, kind)
        elif isinstance(each, type) and issubclass(each, BaseModel):
            yield f"{key}.", each
        elif get_origin(each) in (list, tuple):
            yield from _inside(get_args(each)[0], f"{key}.0")
        elif get_origin(each) is dict:
            yield from _inside(get_args(each)[1], f"{key}.*")


def dotted_keys(stage: str) -> list[str]:
    """The keys as `--set` takes them."""
    names = []
    for key, _ in fields(stage):
        bare = "".join(part.partition("]")[2] if "]" in part else part for part in key.split("["))
        names.append(bare)
    return sorted(set(names))
