"""Command line > environment > recipe > extends > default, for every key of every schema."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from test_reach import changed, is_list, reach, recipe_of

from llmctl.errors import RecipeError
from llmctl.schema.base import STAGES, leaves, load
from llmctl.schema.source import environment_sets


def in_list(stage: str, key: str) -> bool:
    parts = [(name, "") for name in key.split(".")]
    return any(is_list(stage, parts[: n + 1]) for n in range(len(parts)))


LAYERS = ("extends", "recipe", "environment", "command line")
KEYS = [
    (stage, key)
    for stage in STAGES
    for key, row in reach(stage).ROWS.items()
    if row is not None
    and not isinstance(row[0], dict | list)
    and "[" not in key  # before in_list, which knows no kinds
    and not in_list(stage, key)  # a list is replaced whole by the layer above
]


def at(data: Any, loc: tuple[str | int, ...]) -> Any:
    for part in loc:
        if data is None:
            return None
        data = data[part]
    return data


def nested(dotted: str, value: Any) -> dict[str, Any]:
    result: Any = value
    for part in reversed(dotted.split(".")):
        result = {part: result}
    found: dict[str, Any] = result
    return found


@pytest.mark.parametrize(("stage", "key"), KEYS)
@pytest.mark.parametrize("default_wins", [False, True])
def test_the_higher_layer_wins(
    stage: str, key: str, default_wins: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For each two neighbouring layers, the upper one wins, also with the value of the default."""
    module = reach(stage)
    other = module.ROWS[key][0]
    base = changed(module, stage, key)
    whole = recipe_of(stage, changed(module, stage, key)).dump()
    plain = at(whole, tuple(key.split(".")))
    if plain is None and default_wins:
        other, plain = other, other  # None is not written back over a value by every type
    high, low = (plain, other) if default_wins else (other, plain)
    parent = ".".join(key.split(".")[:-1])
    if at(whole, tuple(parent.split("."))) is None if parent else False:
        low = high  # a group that is off by default
    for lower, upper in pairwise(LAYERS):
        files = {"extends": dict(base), "recipe": {"stage": stage}}
        sets: list[str] = []
        with monkeypatch.context() as patch:
            for layer, value in ((lower, low), (upper, high)):
                text = json.dumps(value)
                if layer in files:
                    files[layer] = merged(files[layer], nested(key, value))
                elif layer == "environment":
                    patch.setenv(f"LLMCTL_SET__{key.upper().replace('.', '__')}", text)
                else:
                    sets.append(f"{key}={text}")
            (tmp_path / "low.yaml").write_text(yaml.safe_dump(files["extends"]))
            recipe = {"extends": "low.yaml", **files["recipe"]}
            (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
            found = load(stage, tmp_path / "r.yaml", sets)
        expected = recipe_of(stage, merged(base, nested(key, high))).dump()
        assert found.recipe.dump() == expected, (lower, upper)
        origins = {name: origin for name, _, origin in found.origins()}
        origin = origins.get(key) or next(o for n, o in origins.items() if n.startswith(key))
        mark = {
            "recipe": "r.yaml:",
            "environment": "LLMCTL_SET__",
            "command line": "--set",
        }[upper]
        assert mark in origin, (lower, upper, origin)


def merged(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        return {**below, **{k: merged(below.get(k), v) for k, v in above.items()}}
    return above


def test_a_default_is_named_as_one(tmp_path: Path) -> None:
    for stage in STAGES:
        module = reach(stage)
        data = {"stage": stage, "out": "o", **module.BASE}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(data))
        found = load(stage, tmp_path / "r.yaml")
        given = {loc[0] for loc, _ in leaves(data)}
        for key, _, origin in found.origins():
            if key.split(".")[0] not in given:
                assert origin == "default", (stage, key)


def test_a_key_inside_a_default_can_be_set(tmp_path: Path) -> None:
    """Also a backend's, whose `kind` the recipe does not name, and one in a list of backends."""
    inside = 0
    for stage in STAGES:
        data = {"stage": stage, "out": "o", **reach(stage).BASE}
        (tmp_path / "r.yaml").write_text(yaml.safe_dump(data))
        found = load(stage, tmp_path / "r.yaml")
        whole = found.recipe.dump()
        for key, value, origin in found.origins():
            *around, name = (int(p) if p.isdigit() else p for p in key.split("."))
            kind = at(whole, tuple(around)).get("kind")
            if origin == "default" and kind is not None and name != "kind":
                again = load(stage, tmp_path / "r.yaml", [f"{key}={json.dumps(value)}"])
                assert again.recipe.dump() == whole, (stage, key)
                origins = {name: origin for name, _, origin in again.origins()}
                assert origins.pop(key) == f"--set {key}"
                others = {name: origin for name, _, origin in found.origins() if name != key}
                assert origins == others, (stage, key)
                inside += 1
    assert inside > 30


@pytest.mark.parametrize("order", [1, -1])
def test_an_option_and_its_kind_are_set_in_any_order(tmp_path: Path, order: int) -> None:
    """The option was lost without a word when the kind came after it."""
    (tmp_path / "r.yaml").write_text("stage: ingest\nout: o\nsource: docs\n")
    sets = ["chunker.size=300", "chunker.kind=window"][::order]
    found = load("ingest", tmp_path / "r.yaml", sets).recipe.dump()
    assert (found["chunker"]["kind"], found["chunker"]["size"]) == ("window", 300)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("rag.reranker.model", "rag.reranker: `kind` is missing; kinds: cross_encoder, "
         "late_interaction; add for example --set rag.reranker.kind=cross_encoder"),
        ("rag.transforms.0.keep", "rag.transforms is empty; give it as a list"),
    ],
)  # fmt: skip
def test_what_is_off_by_default_is_asked_for(tmp_path: Path, key: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text("stage: serve\nout: o\nengine: echo\nrag: {store: s}\n")
    with pytest.raises(RecipeError) as caught:
        load("serve", tmp_path / "r.yaml", [f"{key}=1"])
    assert str(caught.value) == f"--set {key}: {message}"


def test_environment_names_are_read_in_any_case() -> None:
    found = list(environment_sets({"LLMCTL_SET__LORA__R": "7", "llmctl_set__seed": "1", "X": "2"}))
    assert [(key, value) for key, value, _ in found] == [("lora.r", "7"), ("seed", "1")]
