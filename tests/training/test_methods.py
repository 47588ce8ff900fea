"""Every method trains, is saved, and its folder gives the logits that it had in training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from training_runs import CHAT, log, recipe, run

from llmctl.errors import InputError

pytestmark = pytest.mark.model

ENDS = ["embed_tokens", "lm_head"]
QV = ["q_proj", "v_proj"]
METHODS: dict[str, dict[str, Any]] = {
    "dora": {"lora": {"r": 4, "dora": True, "rslora": True, "target_modules": QV}},
    "whole-layers": {"learning_rate": 1e-3, "lora": {"modules_to_save": ENDS}},
    "own-head": {"learning_rate": 1e-3, "lora": {"r": 4, "modules_to_save": ["lm_head"]}},
    "ia3": {"method": "ia3"},
    "qlora": {"method": "qlora"},
    "qdora": {"method": "qlora", "lora": {"r": 4, "dora": True}, "qlora": {"double": False}},
    "prompt": {"method": "prompt", "packing": False, "prompt": {"text": "Answer briefly."}},
    "prefix": {"method": "prefix", "packing": False},
}  # fmt: skip
IDS = [3, 70, 700, 7000, 21, 9]


def ordinary(folder: Path) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_learns_and_its_folder_has_what_was_trained(
    name: str, tiny_model: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    from llmctl.training.model import gap, logits

    made = recipe("sft", tiny_model, CHAT, **{"learning_rate": 3e-2, **METHODS[name]})
    artifact = run(made, tmp_path / "out")
    losses = [row["loss"] for row in log(artifact)]
    assert losses[-1] < losses[0]
    assert artifact.metrics["eval_loss_diff"] < 0  # measured on what was saved
    adapter = tmp_path / "out" / "adapter"
    assert json.loads((adapter / "adapter_config.json").read_text())[
        "base_model_name_or_path"
    ] == str(tiny_model)
    assert artifact.model is not None
    if made.method in ("prompt", "prefix"):
        assert (artifact.model["form"], artifact.model["path"]) == ("adapter", "adapter")
        assert not (tmp_path / "out" / "model").exists()
        tuned = PeftModel.from_pretrained(ordinary(tiny_model), str(adapter))
        before = logits(ordinary(tiny_model), IDS)
        assert gap(logits(tuned, IDS)[-len(IDS) :], before) > 1e-3
        return
    assert artifact.model["form"] == "merged"
    assert artifact.metrics["merge_logit_error"] < (2e-2 if made.method == "qlora" else 1e-3)
    if made.method != "qlora":
        tuned = PeftModel.from_pretrained(ordinary(tiny_model), str(adapter))
        whole = ordinary(tmp_path / "out" / "model")
        assert gap(logits(whole, IDS), logits(tuned, IDS)) < 1e-3


def test_the_base_of_qlora_is_in_four_bits_and_its_values_are_what_is_saved(
    tiny_model: Path, tmp_path: Path
) -> None:
    """An independent way: bitsandbytes' own quantization of the base's weight."""
    from bitsandbytes.functional import dequantize_4bit, quantize_4bit
    from safetensors.torch import load_file

    made = recipe("sft", tiny_model, CHAT, method="qlora", learning_rate=1e-9)
    run(made, tmp_path)
    name = "model.layers.0.self_attn.q_proj.weight"
    base = load_file(tiny_model / "model.safetensors")[name]
    saved = load_file(tmp_path / "model" / "model.safetensors")[name]
    packed, state = quantize_4bit(base, quant_type="nf4", compress_statistics=True)
    assert not torch.equal(base, saved)
    assert torch.allclose(dequantize_4bit(packed, state), saved, atol=1e-6)


def test_an_adapter_goes_on_where_it_was(tiny_model: Path, tmp_path: Path) -> None:
    """The second run begins with the loss that the first one ended with."""
    first = run(recipe("sft", tiny_model, CHAT), tmp_path / "a")
    start = {"path": str(tmp_path / "a")}
    second = run(recipe("sft", tiny_model, CHAT, adapter=start), tmp_path / "b")
    assert second.metrics["eval_loss_before"] == pytest.approx(
        first.metrics["eval_loss_after"], abs=1e-4
    )
    assert second.metrics["eval_loss_after"] < second.metrics["eval_loss_before"]
    config = json.loads((tmp_path / "b" / "adapter" / "adapter_config.json").read_text())
    assert config["r"] == 4


def test_an_adapter_is_stacked_on_another(tiny_model: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    first = run(recipe("sft", tiny_model, CHAT), tmp_path / "a")
    start = {"path": str(tmp_path / "a"), "how": "stack"}
    made = recipe("sft", tiny_model, CHAT, adapter=start, lora={"r": 2})
    second = run(made, tmp_path / "b")
    assert second.metrics["eval_loss_before"] == pytest.approx(
        first.metrics["eval_loss_after"], abs=1e-4
    )
    saved = load_file(tmp_path / "b" / "adapter" / "adapter_model.safetensors")
    assert {min(each.shape) for each in saved.values()} == {2}


def test_an_adapter_that_does_not_fit_is_one_line(tiny_model: Path, tmp_path: Path) -> None:
    run(recipe("sft", tiny_model, CHAT), tmp_path / "a")
    start = {"path": str(tmp_path / "a")}
    with pytest.raises(InputError, match="kind LORA, method: ia3 cannot continue it"):
        run(recipe("sft", tiny_model, CHAT, adapter=start, method="ia3"), tmp_path / "b")
    with pytest.raises(InputError, match=r"has no adapter_config\.json"):
        run(recipe("sft", tiny_model, CHAT, adapter={"path": str(tmp_path)}), tmp_path / "c")
    config = tmp_path / "a" / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace('"r": 4', '"r": 5'))
    with pytest.raises(InputError, match="does not fit the base model: size mismatch") as error:
        run(recipe("sft", tiny_model, CHAT, adapter=start), tmp_path / "d")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"method": "full", "lora": {"r": 4}}, "lora says nothing to method: full"),
        ({"qlora": {"double": False}}, "drop it or write method: qlora"),
        ({"method": "prompt"}, "write packing: false"),
        (
            {"method": "prompt", "packing": False, "save_dtype": "fp32"},
            "save_dtype says nothing to method: prompt",
        ),
        ({"lora": {"target_modules": ["lm_head"]}}, "put it into modules_to_save"),
        (
            {"lora": {"target_modules": ["q_proj"], "modules_to_save": ["q_proj"]}},
            "q_proj has an adapter already",
        ),
        ({"adapter": {"path": "a"}, "lora": {"r": 4}}, "keeps the shape of a; drop lora"),
        (
            {"adapter": {"path": "a", "how": "stack"}, "method": "qlora"},
            "cannot add to a base of 4 bits",
        ),
        (
            {"method": "ia3", "ia3": {"target_modules": ["a"], "feedforward_modules": ["b"]}},
            "b is not in target_modules",
        ),
    ],
)
def test_contradictions_are_refused_in_the_recipe(keys: dict[str, Any], said: str) -> None:
    from llmctl.schema.sft import SftRecipe

    base = {"stage": "sft", "out": "out", "model": "m", "data": {"train": "rows.jsonl"}}
    with pytest.raises(ValueError, match=said):
        SftRecipe.model_validate({**base, **keys})
