"""A model to train, and the same model merged, checked and saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerBase
from transformers.modeling_utils import PreTrainedModel

from llmctl import modelref
from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError

TOLERANCE = 1e-3
"""Largest difference between two logits that should be equal, as a share of the largest logit."""


def load(folder: Path, gradient_checkpointing: bool = False) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model in fp32, tokenizer) from an ordinary folder."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="sdpa", use_safetensors=True
    )
    model.config.use_cache = not gradient_checkpointing
    if torch.cuda.is_available():
        model = model.cuda()
    return model, tokenizer


def stored_dtype(folder: Path) -> torch.dtype:
    """The weights' type in a folder: what the merged model is saved as, too."""
    config = json.loads((folder / "config.json").read_bytes())
    name = config.get("dtype") or config.get("torch_dtype") or "float32"
    return torch.bfloat16 if name in ("bfloat16", "float16") else torch.float32


@torch.no_grad()
def logits(model: Any, ids: list[int], position_ids: list[int] | None = None) -> torch.Tensor:
    """The logits of one sequence, shape (time, vocabulary)."""
    model.eval()
    extra = {}
    if position_ids is not None:
        extra["position_ids"] = torch.tensor([position_ids], device=model.device)
    tokens = torch.tensor([ids], device=model.device)
    found: torch.Tensor = model(input_ids=tokens, use_cache=False, **extra).logits[0].float()
    return found


def check_packing(model: Any, one: list[int], other: list[int]) -> None:
    """Refuse to pack when a row would see its neighbour in this model's attention.

    Packed rows are told apart by positions that begin again at 0. `other` must give the same logits
    after `one` as it gives alone.
    """
    one, other = one[:64], other[:64]
    packed = logits(model, one + other, [*range(len(one)), *range(len(other))])[len(one) :]
    alone = logits(model, other)
    gap = float((packed - alone).abs().max() / alone.abs().max())
    if gap > TOLERANCE:
        raise LlmctlError(
            f"packing: in this model a row sees the row before it in a pack (its logits change by "
            f"{gap:.1%}); set packing: false"
        )


def merged(model: PeftModel, probe: list[int], dtype: torch.dtype) -> tuple[PreTrainedModel, float]:
    """(the base with the adapter added to its weights, rounded to `dtype`; relative logit error).

    The error is that of merging, before rounding; too large a one is an error. The weights come
    back in fp32 with the values that `dtype` can hold, so what is measured is what is saved.
    """
    before = logits(model, probe)
    whole: Any = model.merge_and_unload()
    gap = float((logits(whole, probe) - before).abs().max() / before.abs().max())
    if gap > TOLERANCE:
        raise LlmctlError(f"the merged model's logits differ from the adapter's by {gap:.1%}")
    return rounded(whole, dtype), gap


@torch.no_grad()
def rounded(model: Any, dtype: torch.dtype) -> Any:
    """The model with each weight at the nearest value that `dtype` holds."""
    for weight in model.parameters():
        weight.copy_(weight.to(dtype).to(weight.dtype))
    return model


def save(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    artifact: Artifact,
    dtype: torch.dtype,
    base: str,
    form: str,
) -> None:
    """Write `model/` as an ordinary folder and set the artifact's identity of it."""
    folder = artifact.path("model/config.json").parent
    model.config.use_cache = True
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    artifact.model = {
        **modelref.identity(folder),
        "base": base,
        "form": form,
        "path": "model",
    }


def save_adapter(model: PeftModel, artifact: Artifact, base: str) -> None:
    """Write `adapter/`; its base is the recipe's reference, not a path on this machine."""
    path = artifact.path("adapter/adapter_config.json")
    model.save_pretrained(str(path.parent))
    config = json.loads(path.read_bytes()) | {"base_model_name_or_path": base}
    artifact.write_json("adapter/adapter_config.json", config)
    (path.parent / "README.md").unlink(missing_ok=True)  # an empty form
