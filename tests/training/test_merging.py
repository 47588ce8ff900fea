"""Merging: formulas against values worked out by hand, and runs whose logits are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from safetensors.torch import load_file
from training_runs import CHAT, recipe, run

from llmctl.artifact import Artifact, Input
from llmctl.errors import InputError
from llmctl.schema.merge import MergeRecipe
from llmctl.training import merging

A, B = torch.tensor([4.0, -1.0, 2.0, 0.5]), torch.tensor([-1.0, -3.0, 4.0, 0.25])


def joined(method: str, density: float = 0.5, weights: tuple[float, ...] = (0.5, 0.5)) -> Any:
    draws = torch.Generator().manual_seed(0)
    return merging.joined([A, B], weights, method, density, draws).tolist()


def test_linear_is_the_weighted_sum() -> None:
    assert joined("linear", weights=(1.0, 0.5)) == [3.5, -2.5, 4.0, 0.625]


def test_ties_trims_elects_and_averages_those_that_agree() -> None:
    """Half is kept: A [4, 0, 2, 0], B [0, -3, 4, 0]; the third place is the mean of 2 and 4."""
    assert joined("ties") == [4.0, -3.0, 3.0, 0.0]


def test_ties_takes_the_sign_of_the_larger_sum() -> None:
    """Nothing is trimmed: at the first place 4 outweighs -1 and stays alone."""
    assert joined("ties", 1.0) == [4.0, -2.0, 3.0, 0.375]


def test_dare_keeps_the_mean() -> None:
    change = torch.ones(200_000)
    kept = merging.dropped(change, 0.25, torch.Generator().manual_seed(1))
    assert set(kept.unique().tolist()) == {0.0, 4.0}
    assert float(kept.mean()) == pytest.approx(1, abs=0.02)  # 5 standard errors


def merge(base: Path, folder: Path, *sources: Path, kind: str = "adapter", **keys: Any) -> Artifact:
    given = [{kind: str(source)} for source in sources]
    data = {"stage": "merge", "out": "o", "model": str(base), "sources": given, **keys}
    inputs = {}
    for number, source in enumerate(sources):
        manifest = source / "manifest.json"
        found = json.loads(manifest.read_text()) if manifest.is_file() else None
        key = f"sources.{number}.{kind}"
        inputs[key] = Input(key, str(source), source, "0", found)
    artifact = Artifact(folder, inputs)
    from llmctl.stages import merge as stage

    stage.run(MergeRecipe.model_validate(data), artifact)
    return artifact


@pytest.fixture(scope="module")
def tuned(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two adapters of the tiny model, and one of its base in four bits."""
    folder = tmp_path_factory.mktemp("tuned")
    quick: dict[str, Any] = {"max_steps": 2, "learning_rate": 3e-2}
    quick["samples"] = {"rows": 0}
    run(recipe("sft", tiny_model, CHAT, **quick), folder / "one")
    run(recipe("sft", tiny_model, CHAT, **quick, seed=7), folder / "two")
    four = recipe("sft", tiny_model, CHAT, **quick, method="qlora")
    run(four, folder / "four")
    (folder / "four" / "manifest.json").write_text(
        json.dumps({"recipe": four.dump(), "inputs": {}, "outputs": {}})
    )
    return folder


def weights(folder: Path) -> dict[str, Any]:
    return dict(load_file(folder / "model" / "model.safetensors"))


def test_one_adapter_into_its_base_is_what_sft_saved(
    tiny_model: Path, tuned: Path, tmp_path: Path
) -> None:
    artifact = merge(tiny_model, tmp_path, tuned / "one")
    assert artifact.metrics["merge_logit_error"] < 1e-4
    assert artifact.metrics["saved_logit_error"] < 1e-4
    ours, theirs = weights(tmp_path), weights(tuned / "one")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-6) for name in theirs)
    assert artifact.model is not None and artifact.model["form"] == "merged"


def test_an_adapter_of_qlora_goes_into_the_base_that_it_was_trained_on(
    tiny_model: Path, tuned: Path, tmp_path: Path
) -> None:
    merge(tiny_model, tmp_path / "a", tuned / "four")
    ours, theirs = weights(tmp_path / "a"), weights(tuned / "four")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)
    merge(tiny_model, tmp_path / "b", tuned / "four", dequantize=False)
    other = weights(tmp_path / "b")
    assert not all(torch.allclose(other[name], theirs[name], atol=1e-5) for name in theirs)


def test_two_adapters_have_the_logits_that_peft_gives_them_together(
    tiny_model: Path, tuned: Path, tmp_path: Path
) -> None:
    """And the models that sft made of them merge to the same weights."""
    artifact = merge(tiny_model, tmp_path / "a", tuned / "one", tuned / "two")
    assert artifact.metrics["merge_logit_error"] < 1e-4
    models = (tuned / "one" / "model", tuned / "two" / "model")
    merge(tiny_model, tmp_path / "b", *models, kind="model")
    ours, theirs = weights(tmp_path / "a"), weights(tmp_path / "b")
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-5) for name in theirs)


def test_a_merge_in_16_bits_has_the_logits_of_its_weights(
    tiny_model: Path, tuned: Path, tmp_path: Path
) -> None:
    """Saving rounds the weights; the positions' frequencies, which are not saved, stay whole."""
    artifact = merge(tiny_model, tmp_path, tuned / "one", dtype="bf16")
    assert artifact.metrics["saved_logit_error"] < 1e-6


@pytest.mark.parametrize("method", ["ties", "dare", "dare_ties"])
def test_a_sparse_merge_is_saved_as_it_was_computed(
    method: str, tiny_model: Path, tuned: Path, tmp_path: Path
) -> None:
    artifact = merge(tiny_model, tmp_path, tuned / "one", tuned / "two", method=method, density=0.3)
    assert artifact.metrics["saved_logit_error"] < 1e-4
    assert "merge_logit_error" not in artifact.metrics  # nothing else computes these logits
    base, name = load_file(tiny_model / "model.safetensors"), "model.layers.0.mlp.up_proj.weight"
    changed = (weights(tmp_path)[name] != base[name]).float().mean()
    assert 0.3 <= changed < 0.6  # of each source 0.3 is kept


def test_what_does_not_fit_is_one_line(tiny_model: Path, tuned: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    other = LlamaConfig(
        vocab_size=49152, hidden_size=32, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(other).save_pretrained(tmp_path / "other")
    (tmp_path / "other" / "tokenizer.json").write_bytes(
        (tiny_model / "tokenizer.json").read_bytes()
    )
    for name in ("tokenizer_config.json",):
        (tmp_path / "other" / name).write_bytes((tiny_model / name).read_bytes())
    with pytest.raises(InputError, match="of the base's shape") as error:
        merge(tiny_model, tmp_path / "a", tmp_path / "other", kind="model")
    assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="density says nothing to method: linear"):
        merge(tiny_model, tmp_path / "b", tuned / "one", density=0.3)
    with pytest.raises(ValueError, match="either an adapter or a model"):
        MergeRecipe.model_validate({"stage": "merge", "out": "o", "model": "m", "sources": [{}]})
