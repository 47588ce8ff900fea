"""Folders of models that lack something, or are damaged, as a newcomer has them: one line each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
from transformers import AutoModelForCausalLM

from llmctl import modelref, pretrained
from llmctl.errors import InputError

pytestmark = pytest.mark.model


def config(**keys: object) -> str:
    return json.dumps(keys)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    """A model of one's own, to be damaged."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def load(folder: Path) -> Any:
    with modelref.silenced():
        pretrained.tokenizer(folder)
        return pretrained.model(AutoModelForCausalLM, folder)


def told(folder: Path) -> str:
    with pytest.raises(InputError) as caught:
        load(folder)
    assert str(caught.value).startswith(f"{folder}: ") and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_folder_without_a_tokenizer(folder: Path) -> None:
    """`save_pretrained` of a model alone makes one."""
    for file in (*folder.glob("token*"), *folder.glob("vocab*"), *folder.glob("chat*")):
        file.unlink()
    assert "has no tokenizer.json; save the model's tokenizer" in told(folder)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is not a valid JSON file"),
        ("[]", "must be a mapping"),
        (config(model_type="nosuch"), "model type `nosuch`"),
        (config(model_type="llama", hidden_size="x"), "hidden_size"),
        (config(model_type="llama", hidden_size=32), "mismatch"),
    ],
)
def test_a_config_that_is_wrong(folder: Path, text: str, said: str) -> None:
    (folder / "config.json").write_text(text)
    assert said in told(folder)


def test_weights_that_end_too_early(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert "cannot be loaded: Error while deserializing header" in told(folder)


def test_weights_that_are_not_there_are_not_drawn_at_random(folder: Path) -> None:
    """A third layer in the config, or another model's config: serve and eval went on with it."""
    found = json.loads((folder / "config.json").read_text())
    layers = found["num_hidden_layers"]
    types = [*found["layer_types"], found["layer_types"][0]] if found.get("layer_types") else None
    more = {"num_hidden_layers": layers + 1, **({"layer_types": types} if types else {})}
    (folder / "config.json").write_text(json.dumps(found | more))
    assert f"has no weights for model.layers.{layers}." in told(folder)
    (folder / "config.json").write_text(json.dumps(found))
    assert load(folder).config.num_hidden_layers == layers
