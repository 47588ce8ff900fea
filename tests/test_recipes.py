"""Every bundled recipe: valid, documented, and no misspelt key gets through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from llmctl import bundled
from llmctl.errors import RecipeError
from llmctl.schema.base import RECIPES, load
from llmctl.schema.export import FOLDER, stale, text_of
from llmctl.schema.source import parse_yaml

NAMES = bundled.names()
NEIGHBOURS = dict(zip("abcdefghijklmnopqrstuvwxyz_0123456789",
                      "svxsrftujklknmipotdygbqcfuzu-q1234567", strict=False))  # fmt: skip


def test_there_are_recipes() -> None:
    for stage in RECIPES:
        assert f"{stage}/smoke" in NAMES and f"{stage}/demo" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_bundled_recipe_is_valid_and_says_what_it_is(name: str) -> None:
    path = bundled.path_of(name)
    assert load(name.split("/")[0], path).recipe.stage == name.split("/")[0]
    head = path.read_text(encoding="utf-8").split("\nstage:")[0]
    assert "yaml-language-server: $schema=" in head.splitlines()[0]
    schema = re.search(r"\$schema=(\S+)", head)
    assert schema is not None and (path.parent / schema[1]).resolve().is_file()
    for word in ("llmctl", "CPU"):
        assert word in head, f"{name}: the opening comment does not mention {word}"


def mutations(key: str) -> Iterator[str]:
    """The key misspelt in four ways at each place."""
    for i in range(len(key)):
        yield key[:i] + key[i + 1 :]
        yield key[:i] + key[i] + key[i:]
        yield key[:i] + NEIGHBOURS.get(key[i], "x") + key[i + 1 :]
        if i + 1 < len(key) and key[i] != key[i + 1]:
            yield key[:i] + key[i + 1] + key[i] + key[i + 2 :]


def keys_in(path: Path) -> Iterator[tuple[int, int, str]]:
    """(line, column, key), 1-based, of every key of a YAML file."""

    def walk(node: yaml.Node) -> Iterator[tuple[int, int, str]]:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                yield key.start_mark.line + 1, key.start_mark.column + 1, key.value
                yield from walk(value)
        elif isinstance(node, yaml.SequenceNode):
            for item in node.value:
                yield from walk(item)

    node = yaml.compose(path.read_text(encoding="utf-8"))
    assert node is not None
    yield from walk(node)


def test_every_misspelt_key_is_refused_with_its_line_and_the_right_name(tmp_path: Path) -> None:
    """100 % refused with exit code 2 at the right line, at least 95 % with the right name."""
    tried = hinted = 0
    for name in NAMES:
        path = bundled.path_of(name)
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines(keepends=True)
        home = str(path.parent)
        for line, column, key in keys_in(path):
            for wrong in dict.fromkeys(mutations(key)):
                if not wrong or wrong == key:
                    continue
                old = lines[line - 1]
                assert old[column - 1 :].startswith(key)
                new = old[: column - 1] + wrong + old[column - 1 + len(key) :]
                changed = "".join([*lines[: line - 1], new, *lines[line:]])
                target = tmp_path / "r.yaml"
                target.write_text(changed.replace("${recipe_dir}", home), encoding="utf-8")
                with pytest.raises(RecipeError) as error:
                    load(name.split("/")[0], target)
                assert error.value.exit_code == 2
                said = str(error.value).splitlines()
                here = [s for s in said if s.startswith(f"{target}:{line}:")]
                assert here, (name, key, wrong, said)
                tried += 1
                hinted += any(f"'{key}'" in s for s in here)
    assert tried > 500
    assert hinted / tried >= 0.95, f"{hinted} of {tried} have the right name"


@pytest.mark.parametrize("name", NAMES)
def test_the_list_says_what_a_recipe_does_in_a_whole_sentence(name: str) -> None:
    assert bundled.about(name).endswith(".")


def test_the_shipped_schemas_are_fresh() -> None:
    assert stale() == [], "run python -m llmctl.schema.export"


@pytest.mark.parametrize("name", NAMES)
def test_bundled_recipes_obey_the_json_schema(name: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    stage = name.split("/")[0]
    document = parse_yaml(bundled.path_of(name).read_text(encoding="utf-8"), name).data
    if "extends" not in document:
        jsonschema.validate(document, json.loads(text_of(stage)))


@pytest.mark.parametrize("stage", RECIPES)
def test_the_json_schema_refuses_a_misspelt_key(stage: str) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    import json

    schema = json.loads((FOLDER / f"{stage}.json").read_text())
    document = yaml.safe_load(bundled.path_of(f"{stage}/smoke").read_text(encoding="utf-8"))
    document["sede"] = 1
    with pytest.raises(jsonschema.ValidationError, match="sede"):
        jsonschema.validate(document, schema)
