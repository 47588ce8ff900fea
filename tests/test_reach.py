"""Proof that no key is dead: every key changes the fingerprint and reaches what it is meant for.

Each stage has `tests/stages/reach_<stage>.py` with BASE, ROWS and `build`; see there. AROUND has
what a group of keys needs beside it. A key without
a row fails `test_every_key_has_a_proof`. A backend's key needs its proof once, in any stage.
"""

from __future__ import annotations

import copy
import re
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, get_args, get_origin

import pytest

from llmctl.plugins import Backend, backend, room_of
from llmctl.schema.base import RECIPES, Recipe, schema_of
from llmctl.schema.keys import fields
from llmctl.schema.shape import options

UNREACHED = {
    "stage", "version", "out",
    "filters[program].allow_exec", "filters[code_tests].allow_exec",
}  # fmt: skip
"""Keys that no library object gets: they name the recipe and its folder, or can only be true."""


def reach(stage: str) -> ModuleType:
    path = Path(__file__).parent / "stages" / f"reach_{stage.replace('-', '_')}.py"
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def changed(module: ModuleType, stage: str, key: str, *value: Any) -> dict[str, Any]:
    """BASE with the backends on the way to `key` in place, and `key` set when a value is given."""
    recipe: dict[str, Any] = {"stage": stage, "out": "out", **copy.deepcopy(module.BASE)}
    around: dict[str, dict[str, Any]] = getattr(module, "AROUND", {})
    recipe |= copy.deepcopy(around.get(key, around.get(key.partition(".")[0], {})))
    for name in getattr(module, "WITHOUT", {}).get(key.partition(".")[0], ()):
        recipe.pop(name, None)
    kinds: dict[str, dict[str, Any]] = getattr(module, "KINDS", {})
    at: Any = recipe
    parts = re.findall(r"(\w+)(?:\[(\w+)\])?", key)
    path = ""
    for depth, (name, kind) in enumerate(parts):
        last = depth == len(parts) - 1
        path += ("." if path else "") + name + (f"[{kind}]" if kind else "")
        if last:
            if value:
                at[name] = value[0]
            break
        old = at.get(name)
        inner = old[0] if isinstance(old, list) and old else old
        if kind:
            same = isinstance(inner, dict) and inner.get("kind") == kind
            inner = {"kind": kind, **(inner if same else {}), **kinds.get(path, {})}
        elif not isinstance(inner, dict):
            inner = dict(kinds.get(path, {}))
        listed = isinstance(old, list) or is_list(stage, parts[: depth + 1])
        at[name] = [inner, *(old[1:] if isinstance(old, list) else [])] if listed else inner
        at = inner
    return recipe


def is_list(stage: str, parts: list[tuple[str, str]]) -> bool:
    """Whether the last of these (name, kind) is a list; kinds lead into backends."""
    model: Any = schema_of(stage)
    for name, kind in parts[:-1]:
        model = next(iter(options(model.model_fields[name].annotation)), None)
        if get_origin(model) in (list, tuple):
            model = get_args(model)[0]
        if kind:
            model = backend(room_of(model), kind)
    field = model.model_fields[parts[-1][0]]
    return any(get_origin(each) in (list, tuple) for each in options(field.annotation))


def recipe_of(stage: str, data: dict[str, Any]) -> Recipe:
    return schema_of(stage).model_validate(data)


def keys_of(stage: str) -> dict[str, tuple[str, str]]:
    """Key -> what has to be proven: per stage, but once for what stands inside a backend."""
    found = {}
    for key, owner, _ in fields(stage):
        name = key.rpartition(".")[2]
        if issubclass(owner, Backend):
            found[key] = (owner.__module__, name)
        elif "]" in key:  # a part that a backend has, wherever that backend is used
            found[key] = (owner.__module__, f"{owner.__name__}.{name}")
        else:
            found[key] = (stage, key)
    return found


ROWS = [
    (stage, key) for stage in RECIPES for key, row in reach(stage).ROWS.items() if row is not None
]


@pytest.mark.parametrize(("stage", "key"), ROWS)
def test_a_key_changes_the_fingerprint_and_reaches_its_object(
    stage: str, key: str, tmp_path: Path
) -> None:
    module = reach(stage)
    value, where, *expected = module.ROWS[key]
    base = recipe_of(stage, changed(module, stage, key))
    other = recipe_of(stage, changed(module, stage, key, value))
    assert base.fingerprint() != other.fingerprint()
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    found = where(module.build(other, tmp_path / "a"))
    assert found == (expected[0] if expected else value)
    try:
        before = where(module.build(base, tmp_path / "b"))
    except (KeyError, AttributeError, IndexError, TypeError):
        return  # what the key makes is not there without it
    assert before != found


def test_every_key_has_a_proof() -> None:
    proven: set[tuple[str, str]] = set()
    wanted: dict[tuple[str, str], str] = {}
    for stage in RECIPES:
        known = keys_of(stage)
        rows = reach(stage).ROWS
        assert set(rows) <= set(known), f"{stage}: no such keys: {sorted(set(rows) - set(known))}"
        for key, proof in known.items():
            wanted.setdefault(proof, f"{stage}: {key}")
            if key in rows:
                assert rows[key] is not None or key in UNREACHED, f"{stage}: {key} has no proof"
                proven.add(proof)
    missing = sorted(name for proof, name in wanted.items() if proof not in proven)
    assert missing == []
