"""Backends: `kind: sentence` in a recipe loads `sentence.py` from its room.

A room is a package such as `llmctl.rag.chunkers`. Its `base.py` holds one class that derives from
`Backend` and states the promise; every other file holds one subclass and is named as its `kind`.
Packages elsewhere join through an entry-point group of the room's name, read only on a miss.
"""

from __future__ import annotations

import pkgutil
from contextvars import ContextVar
from importlib import import_module
from types import ModuleType
from typing import Any, ClassVar, Self, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from llmctl.words import nearest


def is_promise(cls: type) -> bool:
    """Whether a class is the base of a room; also asked while `Backend` itself is being made."""
    return globals().get("Backend") in cls.__bases__


class Backend(BaseModel):
    """A frozen description of one method; what is alive is what its methods yield."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)

    needs: ClassVar[dict[str, str]] = {}
    """Distribution name -> extra that installs it; checked before a stage runs."""

    @property
    def kind(self) -> str:
        """The name in the recipe: the file's name."""
        return type(self).__module__.rpartition(".")[2]

    @classmethod
    def in_full(cls, text: str) -> dict[str, Any]:
        """What a text alone says in a recipe, as a mapping."""
        return {"kind": text}

    @classmethod
    def of(cls, value: Any) -> Self:
        """A backend of this room from `kind`, or from a mapping with `kind` and options."""
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            value = cls.in_full(value)
        room = room_of(cls)
        if not isinstance(value, dict):
            raise PydanticCustomError(
                "backend_form",
                "give a kind or a mapping with `kind`; kinds: {kinds}",
                {"kinds": ", ".join(kinds(room))},
            )
        if "kind" not in value:
            raise PydanticCustomError(
                "backend_kind_missing",
                "`kind` is missing; kinds: {kinds}",
                {"kinds": ", ".join(kinds(room))},
            )
        options = {key: each for key, each in value.items() if key != "kind"}
        found: Self = backend(room, value["kind"]).model_validate(options)  # type: ignore[assignment]
        return found

    def dump(self) -> dict[str, Any]:
        """`kind` and the options, as JSON values."""
        return {"kind": self.kind, **self.model_dump(mode="json")}

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[BaseModel], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        if not is_promise(cls):
            return handler(source)
        return core_schema.no_info_plain_validator_function(
            cls.of, serialization=core_schema.plain_serializer_function_ser_schema(_dump)
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        if not is_promise(cls):
            return handler(schema)
        room = room_of(cls)
        options = []
        # a kind that holds parts of its own room is not offered inside itself: no endless schema
        inside = cls in _UNFOLDING.get()
        names = [n for n in kinds(room) if not (inside and holds(backend(room, n), cls))]
        token = _UNFOLDING.set((*_UNFOLDING.get(), cls))
        for name in names:
            option = handler(backend(room, name).__pydantic_core_schema__)
            fields = handler.resolve_ref_schema(option)
            fields["properties"] = {"kind": {"const": name}} | fields.get("properties", {})
            fields["required"] = ["kind", *(r for r in fields.get("required", []) if r != "kind")]
            options.append(option)
        _UNFOLDING.reset(token)
        return {"anyOf": [{"enum": names}, *options]}


_UNFOLDING: ContextVar[tuple[type, ...]] = ContextVar("_UNFOLDING", default=())
"""Rooms whose JSON Schema is being written, outermost first."""


def holds(kind: type[BaseModel], room: type[Backend]) -> bool:
    """Whether a field of this kind takes a backend of the same room, as small_to_big does."""
    return any(_mentions(field.annotation, room) for field in kind.model_fields.values())


def _mentions(annotation: Any, room: type) -> bool:
    return annotation is room or any(_mentions(each, room) for each in get_args(annotation))


def _dump(value: Any) -> Any:
    return value.dump() if isinstance(value, Backend) else value


def room_of(cls: type[Backend]) -> ModuleType:
    """The package whose `base.py` defines the backend class."""
    return import_module(cls.__module__.rpartition(".")[0])


def kinds(room: ModuleType) -> list[str]:
    """The kinds that the room's own files supply, sorted."""
    files = pkgutil.iter_modules(room.__path__)
    return sorted(f.name for f in files if f.name != "base" and not f.name.startswith("_"))


def promise(room: ModuleType) -> type[Backend]:
    """The room's base class."""
    base = import_module(f"{room.__name__}.base")
    for each in vars(base).values():
        if isinstance(each, type) and is_promise(each) and each.__module__ == base.__name__:
            return each
    raise TypeError(f"{base.__name__} defines no class that derives from Backend")


def backend(room: ModuleType, kind: Any) -> type[Backend]:
    """The class of one kind; an unknown kind is a validation error that names the nearest."""
    if kind in kinds(room):
        module = import_module(f"{room.__name__}.{kind}")
        base = promise(room)
        for each in vars(module).values():
            own = isinstance(each, type) and each.__module__ == module.__name__
            if own and issubclass(each, base):
                return each  # type: ignore[no-any-return]
        raise TypeError(f"{module.__name__} defines no {base.__name__}")
    from importlib.metadata import entry_points

    for entry in entry_points(group=room.__name__, name=str(kind)):
        loaded: type[Backend] = entry.load()
        return loaded
    what = room.__name__.rpartition(".")[2].removesuffix("s")
    near = nearest(str(kind), kinds(room))
    raise PydanticCustomError(
        "backend_kind",
        "no {what} named '{kind}'{hint}; there are: {kinds}",
        {
            "what": what,
            "kind": str(kind),
            "hint": f", did you mean '{near}'?" if near else "",
            "kinds": ", ".join(kinds(room)),
        },
    )
