"""What was learnt is in the weights that are saved, whatever they are numbers of."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from safetensors.torch import load_file
from tiny_tokenizer import tiny_llama
from torch import nn
from training_runs import CHAT, PAIRS, recipe, run

from llmctl.errors import LlmctlError
from llmctl.training.rounding import rounded

pytestmark = pytest.mark.model


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A random model whose weights are numbers of bfloat16."""
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(tmp_path / "base")
    AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).save_pretrained(folder)
    return folder


def weights(folder: Path) -> dict[str, Any]:
    return load_file(folder / "model.safetensors")


def saved(made: Any, folder: Path) -> dict[str, Any]:
    """The weights of the model that the stage wrote into `folder`."""
    run(made, folder)
    return weights(folder / "model")


@pytest.mark.parametrize(("stage", "rows", "keys"), [
    ("sft", CHAT, {"method": "lora"}), ("sft", CHAT, {"method": "full"}),
    ("dpo", PAIRS, {"method": "lora"}),
    ("dpo", PAIRS, {"method": "lora", "objective": "reward"}),
])  # fmt: skip
def test_a_change_that_16_bits_cannot_show_is_in_the_saved_weights(
    base: Path, tmp_path: Path, stage: str, rows: Path, keys: dict[str, Any]
) -> None:
    made = recipe(stage, base, rows, **{"max_steps": 2, "learning_rate": 1e-5, **keys})
    found = saved(made, tmp_path / "short")
    exact = saved(made.model_copy(update={"save_dtype": "fp32"}), tmp_path / "exact")
    before = weights(base)
    change = left = nearest = 0.0
    for name, weight in before.items():
        assert found[name].dtype == torch.bfloat16
        assert exact[name].dtype == torch.float32
        whole = exact[name].double() - weight.double()
        if not whole.any():
            assert torch.equal(found[name], weight)  # not trained: the base's to the bit
        change += float((whole * whole).sum())
        left += float((whole * (found[name].double() - weight.double())).sum())
        fallen = exact[name].bfloat16().double() - weight.double()
        nearest += float((whole * fallen).sum())
    assert nearest / change < 0.6  # what the nearest numbers would have left
    assert 0.9 < left / change < 1.1


def test_a_number_is_rounded_up_as_often_as_it_lies_near_the_upper_one() -> None:
    layer = nn.Linear(1, 40_000, bias=False)
    layer.device = "cpu"  # type: ignore[assignment]
    for dtype, step in ((torch.bfloat16, 2**-7), (torch.float16, 2**-10)):
        for sign in (1, -1):
            nn.init.constant_(layer.weight, sign * (1 + 0.3 * step))
            found = rounded(layer, dtype, 0).weight
            assert set(found.flatten().tolist()) == {sign * 1.0, sign * (1 + step)}
            assert float((found - sign).abs().mean()) == pytest.approx(0.3 * step, rel=0.05)


def test_what_a_type_can_hold_stays_and_one_seed_gives_one_model() -> None:
    layer = nn.Linear(64, 64)
    layer.device = "cpu"  # type: ignore[assignment]
    start = layer.weight.detach().clone()
    once = rounded(layer, torch.bfloat16, 7).weight.detach().clone()
    assert not torch.equal(once, start)
    assert torch.equal(rounded(layer, torch.bfloat16, 8).weight, once)
    with torch.no_grad():
        layer.weight.copy_(start)
    assert torch.equal(rounded(layer, torch.bfloat16, 7).weight, once)
    with torch.no_grad():
        layer.weight.copy_(start)
    assert not torch.equal(rounded(layer, torch.bfloat16, 8).weight, once)


def test_a_weight_that_float16_cannot_hold_is_refused() -> None:
    layer = nn.Linear(2, 2)
    layer.device = "cpu"  # type: ignore[assignment]
    nn.init.constant_(layer.weight, 70_000.0)
    with pytest.raises(LlmctlError, match="weight is too large for float16"):
        rounded(layer, torch.float16, 0)


def test_a_base_in_float16_gives_a_model_in_float16(base: Path, tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(base, dtype=torch.float16).save_pretrained(base)
    artifact = run(recipe("sft", base, CHAT, max_steps=1), tmp_path / "out")
    assert {each.dtype for each in weights(tmp_path / "out" / "model").values()} == {torch.float16}
    assert artifact.model is not None
    assert artifact.model["dtype"] == "float16"
