"""A model to train, checked before training and saved after it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    PreTrainedTokenizerBase,
)

from llmctl import modelref, pretrained
from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError
from llmctl.schema.parts import WeightType
from llmctl.training import config

TOLERANCE = 1e-3
"""Largest difference between two logits that should be equal, as a share of the largest logit."""


def load(
    folder: Path,
    gradient_checkpointing: bool = False,
    four_bits: BitsAndBytesConfig | None = None,
    processes: int = 1,
) -> tuple[Any, PreTrainedTokenizerBase]:
    """(model in fp32 or with a base of four bits, tokenizer) from an ordinary folder.

    `processes` is how many cut the model's matrices among them; 1 leaves them whole.
    """
    from llmctl.training import split

    tokenizer: PreTrainedTokenizerBase = pretrained.tokenizer(folder)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model = pretrained.model(
        AutoModelForCausalLM,
        folder,
        dtype=torch.float32,
        use_safetensors=True,
        quantization_config=four_bits,
        **split.settings(folder, processes),
    )
    model.config.use_cache = not gradient_checkpointing
    for layer in model.modules():
        # bitsandbytes reorders a layer's weights on the CPU when it is first read without training;
        # PEFT (DoRA's norms) and merging then read them in the wrong order
        if hasattr(layer, "support_avx512bf16_for_cpu"):
            layer.support_avx512bf16_for_cpu = False
    if torch.cuda.is_available():
        model = model.cuda()
    return model, tokenizer


def saved_dtype(folder: Path, wanted: WeightType) -> torch.dtype:
    """The type that weights are saved in; `auto` is that of the base's folder."""
    return config.COMPUTE[modelref.weight_type(folder) if wanted == "auto" else wanted]


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


def gap(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """The largest difference of two tensors of logits, as a share of the largest wanted one."""
    return float((found - wanted).abs().max() / wanted.abs().max())


def check_packing(model: Any, one: list[int], other: list[int], key: str = "packing") -> None:
    """Refuse `packing` or `padding_free` when a row would see its neighbour in this model.

    Rows that lie end to end are told apart by positions that begin again at 0. `other` must give
    the same logits after `one` as it gives alone.
    """
    one, other = one[:64], other[:64]
    places = [*range(len(one)), *range(len(other))]
    try:
        packed = logits(model, one + other, places)[len(one) :]
    except (TypeError, ValueError) as error:  # a model that is not told where its tokens are
        why = str(error).splitlines()[0]
        raise LlmctlError(
            f"{key}: this model takes no positions, by which rows that lie end to end are told "
            f"apart ({why}); set {key}: false"
        ) from None
    alone = logits(model, other)
    change = gap(packed, alone)
    if change > TOLERANCE:
        raise LlmctlError(
            f"{key}: in this model a row sees the row before it in a pack (its logits change by "
            f"{change:.1%}); set {key}: false"
        )


def save(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    artifact: Artifact,
    dtype: torch.dtype,
    base: str,
    form: str,
) -> None:
    """Write `model/` as an ordinary folder and set the artifact's identity of it.

    An adapter that no weight can take up has been written already; the artifact points to it.
    """
    if form == "adapter":
        found = modelref.identity(artifact.folder / "adapter")
        artifact.model = {**found, "base": base, "form": form, "path": "adapter"}
        return
    folder = artifact.path("model/config.json").parent
    model.config.use_cache = True
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    artifact.model = {
        **modelref.identity(folder),
        "base": base,
        "form": form,
        "dtype": str(dtype).removeprefix("torch."),
        "path": "model",
    }
