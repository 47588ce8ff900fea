"""Weights brought to the type that they are saved in without rounding away what was learnt.

Neighbours among the numbers of bfloat16 are up to 1/128 of their size apart. A short training, or
one at a small rate, moves most weights by less than half of that: the nearest number is then the
one where the weight began, and the saved model has forgotten most of what the trained one knew.
"""

from __future__ import annotations

from typing import Any

import torch

from llmctl.errors import LlmctlError

SPARE = {torch.bfloat16: 16, torch.float16: 13}
"""How many of the last bits of fp32 a type has no room for."""
AT_ONCE = 1 << 22
"""Numbers of a weight that are drawn together: 16 MB."""


@torch.no_grad()
def rounded(model: Any, dtype: torch.dtype, seed: int) -> Any:
    """The model, in fp32, with each weight at one of the two numbers of `dtype` around it.

    Which of the two is drawn, the nearer one with the greater chance, so that on average a weight
    stays where it is (stochastic rounding: Gupta et al. 2015; for bfloat16 Zamirai et al. 2020).
    One that `dtype` can hold keeps its value: what was not trained is the base's to the bit.
    """
    if dtype == torch.float32:
        return model
    draws = torch.Generator(model.device).manual_seed(seed)
    below = 1 << SPARE[dtype]
    for name, weight in model.named_parameters():
        whole = torch.atleast_1d(weight.data)
        for piece in whole.split(max(AT_ONCE * len(whole) // whole.numel(), 1)):
            bits = piece.view(torch.int32)
            # carries into the bits that stay as often as what lies below them is large
            bits += torch.randint(
                below, piece.shape, generator=draws, dtype=torch.int32, device=piece.device
            )
            bits &= -below
            piece.copy_(piece.to(dtype))  # float16 has fewer bits near 0
        if not weight.isfinite().all():
            raise LlmctlError(f"{name} is too large for float16; save it as bf16 or fp32")
    return model
