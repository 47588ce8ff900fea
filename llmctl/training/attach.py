"""A saved adapter put on its base; imported by engines too, so nothing else of training is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.errors import InputError
from llmctl.modelref import cache_key

if TYPE_CHECKING:
    from peft import PeftModel


def attached(base: Any, folder: Path, *, trained: bool = False) -> PeftModel:
    """The base with a saved adapter; one of another shape is an error of one line."""
    from peft import PeftModel

    try:
        return PeftModel.from_pretrained(base, str(folder), is_trainable=trained)
    except (RuntimeError, ValueError, KeyError) as error:
        why = str(error).strip().splitlines()[-1].strip()
        raise InputError(f"{folder}: this adapter does not fit the base model: {why}") from None


def is_soft(model: Any) -> bool:
    """Whether a model has a soft prompt or a prefix before each row."""
    config = getattr(model, "active_peft_config", None)
    return config is not None and bool(config.is_prompt_learning)


def likeliest(model: Any, ids: list[int], most: int, ends: set[int]) -> list[int]:
    """At most `most` tokens after the prompt, each the likeliest; for models that are soft.

    PEFT's own `generate` is wrong beside transformers 5.24, which gave the cache another name: it
    leaves a prefix out, and puts a soft prompt before each new token. Here what stands before the
    row is read once, with the prompt, and stays in the cache.
    """
    import torch

    kept = cache_key()
    found: list[int] = []
    out = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True)
    while len(found) < most:
        token = int(out.logits[0, -1].argmax())
        if token in ends:
            break
        found.append(token)
        more: dict[str, Any] = {"use_cache": True, kept: out[kept]}
        out = model.get_base_model()(input_ids=torch.tensor([[token]], device=model.device), **more)
    return found
