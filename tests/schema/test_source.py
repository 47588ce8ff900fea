"""Recipes as text: places, layers, expansion, and one line for every mistake."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field

from llmctl.errors import RecipeError
from llmctl.schema import base
from llmctl.schema.base import Part, Recipe, load


class Data(Part):
    train: Path = Field(description="Rows.")
    weight: float = Field(1.0, gt=0, description="Share.")


class Lora(Part):
    r: int = Field(16, ge=1, description="Rank.")
    alpha: int = Field(32, description="Scale.")


class ToyRecipe(Recipe):
    stage: Literal["dedup"]
    data: Data
    lora: Lora | None = Field(None, description="Adapter.")
    learning_rate: float = Field(1e-4, gt=0, description="Step.")
    items: list[Data] = Field([], description="More.")
    word: str = Field("a", description="A word.")
    scheduler: Literal["cosine", "linear"] = Field("cosine", description="One of two.")


BASE = "stage: dedup\nout: b\ndata: {train: x}\n"


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "schema_of", lambda stage: ToyRecipe)


def loaded(tmp_path: Path, text: str, *sets: str, stage: str | None = "dedup") -> base.Loaded:
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return load(stage, path, sets)


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (BASE + "learning_rat: 1\n", "4:1", "did you mean 'learning_rate'?"),
        (BASE + "lora: {r: 3, alhpa: 3}\n", "4:14", "did you mean 'alpha'?"),
        (BASE + "scheduler: cosin\n", "4:1", "found 'cosin', did you mean 'cosine'?"),
        (BASE + "lora: {r: x}\n", "4:8", "lora.r: input should be a valid integer"),
        ("stge: dedup\nout: b\n", "1:1", "did you mean 'stage'?"),
        ("stage: sft\nout: b\n", "1:1", "this is a recipe for `sft`, not for `dedup`"),
        ("stage: dedupe\nout: b\n", "1:1", "no stage named 'dedupe', did you mean 'dedup'?"),
        (BASE + "out: c\n", "4:1", "`out` is there twice; the first is in line 2"),
        ("- a\n- b\n", "1", "is a list"),
        ("just words\n", "1", "is a single value"),
        ("a: [1,\n", "2:1", "not valid YAML"),
        ("a: \x00\n", "", "not valid YAML"),
        ("stage: dedup\nout: b\ndata: {trian: x}\n", "3:8", "did you mean 'train'?"),
        (BASE + "items: [{train: a}, {train: b, wieght: 3}]\n", "4:32", "in items.1"),
        ("stage: dedup\nout: ${env:LLMCTL_NONE}\ndata: {train: x}\n", "2:1", "is not set"),
        ("stage: dedup\nout: ${what}\ndata: {train: x}\n", "2:1", "${what} is not known"),
        (BASE + "seed: -1\n", "4:1", "found -1"),
        (BASE + "extends: none.yaml\n", "4:1", "which is not there"),
        ("a: &a [*a]\n", "1", "contains itself"),
        (BASE + "chunker: x\n", "4:1", "unknown key 'chunker'"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(
    tmp_path: Path, text: str, line: str, says: str
) -> None:
    with pytest.raises(RecipeError) as error:
        loaded(tmp_path, text)
    message = str(error.value)
    assert "\n" not in message
    where = f"{tmp_path / 'r.yaml'}:{line}" if line else str(tmp_path / "r.yaml")
    assert message.startswith(where + ":")
    assert says in message


def test_every_mistake_is_said(tmp_path: Path) -> None:
    with pytest.raises(RecipeError) as error:
        loaded(tmp_path, BASE + "sed: 1\nlora: {r: 0}\nword: [1]\n")
    lines = [int(line.split(":")[1]) for line in str(error.value).splitlines()]
    assert sorted(lines) == [4, 5, 6]


@pytest.mark.parametrize(
    ("text", "value"),
    [("1e-4", 1e-4), ("1E5", 1e5), ("2.5e+3", 2500.0), (".5", 0.5), ("12", 12.0)],
)
def test_numbers_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    assert loaded(tmp_path, BASE + f"learning_rate: {text}\n").recipe.learning_rate == value


@pytest.mark.parametrize("word", ["no", "yes", "on", "off", "y", "n"])
def test_words_stay_words(tmp_path: Path, word: str) -> None:
    assert loaded(tmp_path, BASE + f"word: {word}\n").recipe.word == word


def test_anchors_and_merge_keys(tmp_path: Path) -> None:
    text = "stage: dedup\nout: b\nitems: [&a {train: q, weight: 5}]\ndata: {<<: *a, weight: 2}\n"
    found = loaded(tmp_path, text)
    assert found.recipe.data == Data(train=Path("q"), weight=2)
    assert found.place("data.weight").line == 4
    assert found.place("data.train").line == 3


def test_list_items_are_set_by_number(tmp_path: Path) -> None:
    text = BASE + "items: [{train: a}, {train: b}]\n"
    found = loaded(tmp_path, text, "items.1.weight=3")
    assert [each.weight for each in found.recipe.items] == [1, 3]
    with pytest.raises(RecipeError, match="items is a list of 2"):
        loaded(tmp_path, text, "items.2.weight=3")


def test_extends_is_relative_to_the_file_and_may_chain(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    (tmp_path / "low" / "a.yaml").write_text(BASE + "lora: {r: 5}\nword: '${recipe_dir}'\n")
    (tmp_path / "b.yaml").write_text("extends: low/a.yaml\nlora: {alpha: 1}\n")
    found = loaded(tmp_path, "extends: b.yaml\nseed: 3\n")
    assert found.recipe.lora == Lora(r=5, alpha=1)
    assert found.recipe.word == str(tmp_path / "low")
    assert found.place("lora.r").file.endswith("a.yaml")
    (tmp_path / "low" / "a.yaml").write_text("extends: ../r.yaml\n")
    with pytest.raises(RecipeError, match="comes back to this file"):
        loaded(tmp_path, "extends: b.yaml\nseed: 3\n")


def test_environment_expansion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_TEST_OUT", "here")
    text = "stage: dedup\nout: ${env:LLMCTL_TEST_OUT}/${env:LLMCTL_NONE:-x}\ndata: {train: x}\n"
    assert loaded(tmp_path, text).recipe.out == Path("here/x")


@pytest.mark.parametrize("text", ["", "\n", "# nothing\n"])
def test_an_empty_recipe(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match="is empty"):
        loaded(tmp_path, text)


def test_files_that_are_no_recipes(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no such recipe"):
        load(None, tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="is a folder"):
        load(None, tmp_path)
    (tmp_path / "b.yaml").write_bytes(b"stage: dedup\nout: \xff\n")
    with pytest.raises(RecipeError, match=r"b.yaml:2: not UTF-8"):
        load(None, tmp_path / "b.yaml")
