"""Recipe: what every stage's recipe has, how it is loaded, and errors with file and line."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from llmctl.errors import RecipeError
from llmctl.plugins import Backend
from llmctl.schema.shape import below, model_of, on_defaults
from llmctl.schema.source import (
    Layer,
    Loc,
    Place,
    assigned,
    environment_sets,
    expanded,
    layers_of,
    merge,
)
from llmctl.words import nearest

STAGES = ("ingest", "build-dataset", "dedup", "sft", "dpo", "quantize", "eval", "serve")
RECIPES = (*STAGES, "ask", "merge")
"""What has a recipe; `ask` answers a question and writes no artifact, `merge` helps sft and dpo."""


class Part(BaseModel):
    """A group of keys inside a recipe."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Recipe(Part):
    """One stage's request; unknown keys are refused."""

    impl: ClassVar[int] = 1
    """Raised when the stage's implementation gives other output for the same request."""
    needs: ClassVar[dict[str, str]] = {}
    """Distribution name -> extra; the versions enter the artifact's key."""

    version: Literal[1] = Field(1, description="Version of the recipe format.")
    out: Path = Field(description="Folder of the artifact that the stage writes.")
    seed: int = Field(42, ge=0, lt=2**32, description="Seed of every random choice.")

    def inputs(self) -> dict[str, Path | str]:
        """Recipe key -> local path (must exist) or model reference; digested into the key."""
        return {}

    def revisions(self) -> dict[str, str]:
        """Recipe key -> version of something that is not a local file; enters the key as text."""
        return {}

    def look(self) -> None:
        """Refuse inputs that no run could use, as far as their beginnings tell; cheap."""

    def always(self) -> str:
        """Why the stage runs even when nothing is known to have changed; empty when it need not."""
        return ""

    def estimate(self) -> dict[str, str]:
        """Lines for `plan`: memory, disk, time; cheap to compute."""
        return {}

    def dump(self) -> dict[str, Any]:
        """The resolved recipe as JSON values, defaults included."""
        return self.model_dump(mode="json")

    def fingerprint(self) -> str:
        """sha256 of the resolved recipe; the order of keys and comments do not count."""
        text = json.dumps(self.dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def all_needs(self) -> dict[str, str]:
        """The needs of the recipe and of every backend in it."""
        found = dict(self.needs)
        for each in _backends(self):
            found |= each.needs
        return found


@dataclass(frozen=True)
class Loaded:
    """A valid recipe and where each of its values was written."""

    recipe: Any
    layer: Layer
    path: Path

    def place(self, dotted: str) -> Place:
        """Where a key was written, or the recipe's first line."""
        loc: Loc = tuple(int(p) if p.isdigit() else p for p in dotted.split("."))
        return self.layer.place(loc) or Place(str(self.path), 1)

    def origins(self) -> Iterator[tuple[str, Any, str]]:
        """(key, value, origin) of every value in the resolved recipe."""
        for loc, value in leaves(self.recipe.dump()):
            at = self.layer.places.get(loc)
            parent = loc
            while at is None and len(parent) > 1 and _given(self.layer.data, loc):
                parent = parent[:-1]
                at = self.layer.places.get(parent)
            yield ".".join(map(str, loc)), value, str(at) if at else "default"


def _given(data: Any, loc: Loc) -> bool:
    for part in loc:
        below = dict(enumerate(data)) if isinstance(data, list) else data
        if not isinstance(below, dict) or part not in below:
            return isinstance(data, str) and part == "kind"
        data = below[part]
    return True


def leaves(value: Any, loc: Loc = ()) -> Iterator[tuple[Loc, Any]]:
    """(place, value) of everything that is not a mapping or a list of mappings."""
    if isinstance(value, dict) and (value or not loc):
        for key, each in value.items():
            yield from leaves(each, (*loc, key))
    elif isinstance(value, list) and any(isinstance(each, dict) for each in value):
        for index, each in enumerate(value):
            yield from leaves(each, (*loc, index))
    else:
        yield loc, value


def schema_of(stage: str) -> type[Recipe]:
    """The recipe class of a stage."""
    module = import_module(f"llmctl.schema.{stage.replace('-', '_')}")
    name = "".join(part.title() for part in stage.split("-")) + "Recipe"
    found: type[Recipe] = getattr(module, name)
    return found


def load(
    stage: str | None, path: Path, sets: Sequence[str] = (), out: Path | None = None
) -> Loaded:
    """Read, join and check a recipe; every mistake is one line of a RecipeError.

    `stage` None takes the stage that the recipe names.
    """
    layer: Layer | None = None
    for each in layers_of(path):
        layer = each if layer is None else merge(layer, each)
    assert layer is not None
    named = layer.data.get("stage")
    cls = schema_of(named) if named in RECIPES else Recipe  # a wrong stage is told below
    layer = with_sets(layer, cls, [*environment_sets(), *map(parted, sets)])
    layer = expanded(layer, path.parent)
    if out is not None:
        layer = merge(layer, Layer({"out": str(out)}, {("out",): Place("--out")}))
    return Loaded(_checked(stage, layer, path), layer, path)


def parted(text: str) -> tuple[str, str, str]:
    """(dotted key, value, name) of a `--set KEY=VALUE`."""
    dotted, equals, value = text.partition("=")
    if not equals:
        raise RecipeError(f"--set {text}: write it as KEY=VALUE")
    return dotted.strip(), value, f"--set {dotted.strip()}"


def with_sets(layer: Layer, cls: type[BaseModel], sets: list[tuple[str, str, str]]) -> Layer:
    """`layer` with each (dotted key, value, name) on top of what the class has by default."""
    keys = {dotted for dotted, _, _ in sets}
    for dotted, text, name in sets:
        layer = assigned(_on_defaults(layer, cls, dotted, keys), dotted, text, name)
    return layer


def _on_defaults(layer: Layer, cls: type[BaseModel], dotted: str, named: set[str]) -> Layer:
    """`layer` with the defaults that a key is inside of; their origin stays `default`."""
    data = on_defaults(cls, layer.data, dotted.split("."), named)
    before = dict(leaves(layer.data))
    added = {}
    for loc, _ in leaves(data):
        if loc not in before:
            in_short = any(loc[:n] in before for n in range(1, len(loc)))
            added[loc] = (layer.place(loc) if in_short else None) or Place("default")
    return Layer(data, added | layer.places)


def _checked(stage: str | None, layer: Layer, path: Path) -> Recipe:
    named, known = layer.data.get("stage"), ", ".join(RECIPES)
    if "stage" not in layer.data:
        hint = nearest("stage", (str(key) for key in layer.data))
        if hint:
            place = layer.place((hint,))
            raise RecipeError(f"{place}: unknown key '{hint}', did you mean 'stage'?")
        raise RecipeError(f"{path}:1: `stage: {stage or '...'}` is missing")
    if named is None:
        raise RecipeError(f"{layer.place(('stage',))}: `stage` is empty; write one of: {known}")
    if named not in RECIPES:
        near = nearest(str(named), RECIPES)
        hint = f", did you mean '{near}'?" if near else ""
        raise RecipeError(
            f"{layer.place(('stage',))}: no stage named '{named}'{hint}; there are: {known}"
        )
    if stage is not None and named != stage:
        raise RecipeError(
            f"{layer.place(('stage',))}: this is a recipe for `{named}`, not for `{stage}`; "
            f"run: llmctl {named} {path}"
        )
    return checked(schema_of(str(named)), layer, path)


Described = TypeVar("Described", bound=BaseModel)


def checked(cls: type[Described], layer: Layer, path: Path) -> Described:
    """What the values describe; each mistake is a line that names its place, else `path`."""
    try:
        return cls.model_validate(layer.data)
    except ValidationError as error:
        raise RecipeError("\n".join(_lines(error, cls, layer, path))) from None


def _lines(error: ValidationError, cls: type[BaseModel], layer: Layer, path: Path) -> Iterator[str]:
    """One line per mistake; a missing key that is there under a misspelt name is said once."""
    problems = error.errors(include_url=False)
    meant: set[Loc] = set()
    lines: list[tuple[Loc, str, str]] = []
    for loc, each in _mistakes(problems, layer.data):
        where = str(layer.place(loc) or path)
        if each["type"] == "missing" and loc and loc[-1] != each["loc"][-1]:
            loc = (*loc, each["loc"][-1])  # of a backend that is given by its kind alone
        if each["type"] == "extra_forbidden":
            text, suggestion = _unknown(loc, cls, layer.data)
            if suggestion:
                meant.add((*loc[:-1], suggestion))
            lines.append((loc, each["type"], f"{where}: {text}"))
        elif each["type"] == "backend_kind_missing":
            value = each["input"]
            near = nearest("kind", value) if isinstance(value, dict) else None
            if near and "kind" not in value:
                where = str(layer.place((*loc, near)) or where)
                text = f"unknown key '{near}' in {_dotted(loc)}, did you mean 'kind'?"
                lines.append((loc, each["type"], f"{where}: {text}"))
            else:
                first = f"{_dotted(loc)}.kind={each['ctx']['kinds'].split(', ')[0]}"
                hint = f"; add for example --set {first}" if where.startswith("--set") else ""
                lines.append((loc, each["type"], f"{where}: {_dotted(loc)}: {each['msg']}{hint}"))
        else:
            if each["type"] == "value_error":
                where = str(layer.places.get((*loc, *_named(each["msg"]))) or where)
            elif each["type"] == "backend_kind":
                where = str(layer.places.get((*loc, "kind")) or where)
            name = _dotted(loc) if loc or each["type"] == "missing" else ""
            lines.append((loc, each["type"], f"{where}: {name}{_message(each, bool(loc))}"))
    for loc, kind, line in lines:
        if not (kind == "missing" and loc in meant):
            yield line


def _mistakes(problems: list[Any], data: Any) -> Iterator[tuple[Loc, Any]]:
    """(place in the data, problem); what a value lacks for each form of its key is one problem.

    Pydantic tells it for each member of a union: the member that looked deepest is the one that
    was meant, and members that looked equally deep are joined by `or`.
    """
    found = [(_real(each, data), each) for each in problems]
    said: set[Loc] = set()
    for loc, each in found:
        if each["type"] in _COUNTS and any(at[: len(loc)] == loc != at for at, _ in found):
            continue  # a tuple counts only the items that are right
        if each["type"] in _FORMS:
            if loc in said or any(len(at) > len(loc) and at[: len(loc)] == loc for at, _ in found):
                continue
            said.add(loc)
            here = [other for at, other in found if at == loc and other["type"] in _FORMS]
            if each["type"] != "literal_error" or len(here) > 1:
                forms = dict.fromkeys(_form(other) for other in here)
                each = {**each, "msg": f"{' or '.join(forms)} is needed"}
        yield loc, each


_FORMS = {
    "path_type": "a path",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "string_type": "a text",
    "literal_error": "one of some words",
}
"""Mistakes about what a value is at all, in words."""


def _form(each: Any) -> str:
    return str(each.get("ctx", {}).get("expected") or _FORMS[each["type"]])


def _named(message: str) -> Loc:
    """The key that a message about several keys begins with: that is where to look."""
    found = re.match(r"Value error, `?([a-z_]+(?:\.\w+)*)`?[ :]", message)
    return tuple(int(p) if p.isdigit() else p for p in found[1].split(".")) if found else ()


MOST_WORDS = 40
"""A longer list of allowed words would bury what is said."""
UNSHOWN = ("backend", "secret")
"""Mistakes that say what was found, or must not."""
_COUNTS = {"too_short": ("at least", "min_length"), "too_long": ("at most", "max_length")}
"""Mistakes about how many items a list has, in words, and where the bound is told."""


def _message(each: Any, named: bool) -> str:
    message = each["msg"].removeprefix("Value error, ")
    if each["type"] == "missing":
        return " is missing"
    if each["type"] in _COUNTS:
        words, bound = _COUNTS[each["type"]]
        message = f"{words} {each['ctx'][bound]} needed, found {each['ctx']['actual_length']}"
    given = each.get("input")
    short = isinstance(given, str | int | float | bool)
    if each["type"] in _FORMS or (short and not each["type"].startswith(UNSHOWN)):
        message += f", found {_shown(given)}"
    if each["type"] == "literal_error" and isinstance(given, str):
        allowed = re.findall("'([^']*)'", each["ctx"]["expected"])
        near = nearest(given, allowed)
        if len(allowed) > MOST_WORDS:
            alike = ", ".join(repr(word) for word in allowed if word[:1] == given[:1].lower())
            message = f"input should be one of {len(allowed)} words" + (
                f" (with '{given[0].lower()}': {alike})" if alike else ""
            )  # fmt: skip
            message += f", found {_shown(given)}"
        message += f", did you mean '{near}'?" if near else ""
    return f": {message[0].lower()}{message[1:]}" if named else message


def _shown(given: Any) -> str:
    """A value as the recipe has it, in a word where it is long."""
    what = {type(None): "nothing", list: "a list", dict: "a mapping"}.get(type(given))
    if isinstance(given, bool):
        return str(given).lower()
    return what or (repr(given) if isinstance(given, str) else str(given))


def _dotted(loc: Loc) -> str:
    return ".".join(map(str, loc)) or "recipe"


def _real(each: Any, data: Any) -> Loc:
    """The part of pydantic's location that exists in the data (it also names union members)."""
    loc = each["loc"]
    real: list[str | int] = []
    for index, part in enumerate(loc):
        if isinstance(data, dict):
            if part in data:
                data = data[part]
            elif index < len(loc) - 1 or each["type"] != "missing":
                continue
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            continue
        real.append(part)
    return tuple(real)


def _unknown(loc: Loc, cls: type[BaseModel], data: Any) -> tuple[str, str | None]:
    key = str(loc[-1])
    valid = keys_at(cls, data, loc[:-1])
    inside = f" in {_dotted(loc[:-1])}" if len(loc) > 1 else ""
    near = nearest(key, valid)
    if near:
        return f"unknown key '{key}'{inside}, did you mean '{near}'?", near
    elsewhere = [s for s in RECIPES if len(loc) == 1 and _has(s, key)]
    if elsewhere:
        return f"'{key}' is a key of {', '.join(elsewhere)}, not of this stage", None
    return f"unknown key '{key}'{inside}; there are: {', '.join(sorted(valid))}", None


def _has(stage: str, key: str) -> bool:
    try:
        return key in schema_of(stage).model_fields
    except ImportError:
        return False


def keys_at(cls: type[BaseModel], data: Any, loc: Loc) -> set[str]:
    """The valid keys of the mapping at `loc`."""
    annotation: Any = cls
    for part in loc:
        annotation = below(annotation, data, part)
        data = data[part] if isinstance(data, dict | list) else None  # type: ignore[index]
    model = model_of(annotation, data)
    if model is None:
        return set()
    extra = {"kind"} if issubclass(model, Backend) else set()
    extra |= {"extends"} if issubclass(model, Recipe) else set()
    return {*model.model_fields, *extra}


def _backends(value: Any) -> Iterator[Backend]:
    if isinstance(value, Backend):
        yield value
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _backends(getattr(value, name))
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _backends(each)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _backends(each)
