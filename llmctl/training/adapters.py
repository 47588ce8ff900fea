"""Adapters: one to begin with, one that is saved, and one that is added to its base's weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from llmctl import modelref
from llmctl.artifact import Artifact
from llmctl.errors import InputError, LlmctlError
from llmctl.schema.method import UNMERGED
from llmctl.schema.training import TrainingRecipe
from llmctl.training import config, model, rounding
from llmctl.training.attach import attached
from llmctl.training.vocabulary import Vocabulary, fit

TYPES = {
    "lora": "LORA",
    "qlora": "LORA",
    "prompt": "PROMPT_TUNING",
    "prefix": "PREFIX_TUNING",
    "ia3": "IA3",
}
"""Method -> what PEFT calls it in adapter_config.json."""
ROUGH = 0.02
"""As model.TOLERANCE, between a base of four bits that computes in 16 bits and its fp32 form."""


def policy(
    recipe: TrainingRecipe,
    source: Path,
    vocabulary: Vocabulary,
    artifact: Artifact,
    *,
    whole: bool = False,
) -> Any:
    """The model that is trained, before it gets a new adapter; `whole` in one process's memory."""
    cut = recipe.launch.strategy == "tensor" and not whole
    processes = recipe.launch.processes if cut else 1
    if cut and vocabulary.new:
        raise InputError(
            f"launch.strategy: tensor has no room for {len(vocabulary.new)} new tokens; add them "
            "first with a run of one process, or use fsdp"
        )
    base, _ = model.load(source, recipe.gradient_checkpointing, config.four_bits(recipe), processes)
    fit(base, vocabulary)
    return begun(base, recipe, artifact)


def begun(policy: Any, recipe: TrainingRecipe, artifact: Artifact) -> Any:
    """`policy` with the adapter that the recipe begins with; as it is when there is none."""
    if recipe.adapter is None:
        return policy
    folder = modelref.adapter_folder(recipe.adapter.path)
    check_base(artifact)
    kind = json.loads((folder / "adapter_config.json").read_bytes()).get("peft_type")
    going_on = recipe.adapter.how == "continue"
    if going_on and kind != TYPES[recipe.method]:
        raise InputError(
            f"{folder}: is an adapter of kind {kind}, method: {recipe.method} cannot continue it"
        )
    if not going_on and kind in (TYPES[each] for each in UNMERGED):
        raise InputError(f"{folder}: an adapter of kind {kind} is no part of the base's weights")
    found = attached(policy, folder, trained=going_on)
    return found if going_on else found.merge_and_unload()


def check_base(artifact: Artifact) -> None:
    """Refuse an adapter whose manifest names another base than the recipe's model."""
    manifest = artifact.manifest_of("adapter.path")
    if manifest is None or "model" not in artifact.inputs:
        return
    trained_on = manifest["inputs"].get("model", {})
    given = artifact.inputs["model"]
    if trained_on.get("sha256") not in (None, given.digest):
        raise InputError(
            f"adapter.path: {artifact.inputs['adapter.path'].ref}: was trained on "
            f"{trained_on.get('ref')}, which is not {given.ref}"
        )


def save(tuned: PeftModel, tokenizer: Any, artifact: Artifact, base: str) -> Path:
    """Write `adapter/` with its tokenizer; its base is the recipe's reference, not a path here."""
    path = artifact.path("adapter/adapter_config.json")
    # layers that are trained whole are saved by themselves, "auto" would write them twice
    tuned.save_pretrained(str(path.parent), save_embedding_layers=False)
    settings = json.loads(path.read_bytes()) | {"base_model_name_or_path": base}
    if settings.get("tokenizer_name_or_path"):
        settings["tokenizer_name_or_path"] = base
    artifact.write_json("adapter/adapter_config.json", settings)
    (path.parent / "README.md").unlink(missing_ok=True)  # an empty form
    tokenizer.save_pretrained(path.parent)
    return path.parent


def merged(tuned: PeftModel, probe: Sequence[int]) -> tuple[Any, float]:
    """(the base in fp32 with the adapter added to its weights, relative logit error)."""
    before = model.logits(tuned, list(probe))
    whole: Any = tuned.merge_and_unload()
    gap = model.gap(model.logits(whole, list(probe)), before)
    if gap > model.TOLERANCE:
        raise LlmctlError(f"the merged model's logits differ from the adapter's by {gap:.1%}")
    return whole, gap


def merged_into_whole(
    tuned: PeftModel, whole: Any, folder: Path, probe: Sequence[int]
) -> tuple[Any, float]:
    """As `merged`, of an adapter that was trained on a base of four bits.

    `whole` is the base with the values that the four bits stand for: what the adapter was trained
    on. The error is between the four-bit model and the merged one.
    """
    before = model.logits(tuned, list(probe))
    found, _ = merged(attached(whole, folder), probe)
    gap = model.gap(model.logits(found, list(probe)), before)
    if gap > ROUGH:
        raise LlmctlError(f"the merged model's logits differ from the 4-bit model's by {gap:.1%}")
    return found, gap


def dequantized(quantized: Any) -> Any:
    """The model with each layer of four bits as an ordinary one in fp32, with the same values."""
    import bitsandbytes

    for name, layer in list(quantized.named_modules()):
        if not isinstance(layer, bitsandbytes.nn.Linear4bit):
            continue
        values = bitsandbytes.functional.dequantize_4bit(
            layer.weight.data, layer.weight.quant_state
        )
        bias = layer.bias is not None
        with torch.device("meta"):
            ordinary = torch.nn.Linear(layer.in_features, layer.out_features, bias=bias)
        ordinary.weight = torch.nn.Parameter(values.float(), requires_grad=False)
        if bias:
            ordinary.bias = torch.nn.Parameter(layer.bias.float(), requires_grad=False)
        quantized.set_submodule(name, ordinary)
    for mark in ("hf_quantizer", "quantization_method", "is_loaded_in_4bit"):  # they forbid saving
        if hasattr(quantized, mark):
            delattr(quantized, mark)
    quantized.is_quantized = False
    if hasattr(quantized.config, "quantization_config"):
        del quantized.config.quantization_config
    return quantized


def finished(
    tuned: Any,
    vocabulary: Vocabulary,
    recipe: TrainingRecipe,
    artifact: Artifact,
    probe: Sequence[int],
) -> tuple[Any, str]:
    """(what was trained as it is saved and measured, its form: full, merged or adapter).

    Writes `adapter/` when there is one; the weights have values that their saved type can hold.
    """
    source = modelref.hf_folder(recipe.model)
    dtype = model.saved_dtype(source, recipe.save_dtype)
    if recipe.method == "full":
        return rounding.rounded(tuned, dtype, recipe.seed), "full"
    folder = save(tuned, vocabulary.tokenizer, artifact, recipe.model)
    if recipe.method in UNMERGED:
        return tuned, "adapter"
    if recipe.method == "qlora":
        base, _ = model.load(source, four_bits=config.four_bits(recipe))
        fit(base, vocabulary)
        whole, gap = merged_into_whole(tuned, dequantized(base), folder, probe)
    else:
        whole, gap = merged(tuned, probe)
    artifact.metrics["merge_logit_error"] = gap
    return rounding.rounded(untied(whole), dtype, recipe.seed), "merged"


def untied(whole: Any) -> Any:
    """Tell the configuration when training has parted the input from the output vectors.

    Saved as tied, the model would lose what its output layer has learnt.
    """
    ends = whole.get_input_embeddings().weight, whole.get_output_embeddings().weight
    if whole.config.tie_word_embeddings and not torch.equal(*ends):
        whole.config.tie_word_embeddings = False
    return whole
