"""Log-probabilities of held-out rows, and means with their standard errors."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

from llmctl import ui
from llmctl.modelref import cache_key

BATCH_TOKENS = 2048
"""Of one forward pass: a GPU is hardly busy with fewer."""
SHARED_TOKENS = 48
"""Tokens that must be spared on a CPU before a forward pass of their own pays."""
COPIED = (DynamicLayer, DynamicSlidingWindowLayer)
"""Layers of a cache that are keys and values only."""


@torch.no_grad()
def log_probabilities(
    model: Any, rows: Sequence[tuple[list[int], list[bool]]], label: str
) -> list[tuple[float, int]]:
    """(sum of the targets' log-probabilities in nats, targets) of each (ids, trained) row."""
    model.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i][0]))
    found: list[tuple[float, int]] = [(0.0, 0)] * len(rows)
    with ui.progress(label, len(rows)) as advance:
        while order:
            longest = len(rows[order[-1]][0])
            batch = [order.pop() for _ in range(min(len(order), max(1, BATCH_TOKENS // longest)))]
            for index, result in zip(
                batch, score_batch(model, [rows[i] for i in batch]), strict=True
            ):
                found[index] = result
            advance(len(batch))
    return found


@torch.no_grad()
def score_alike(
    model: Any, rows: Sequence[tuple[list[int], list[bool]]]
) -> list[tuple[float, int]]:
    """As `score_batch`, of rows that may begin alike: what they share is read once."""
    shared = alike(rows)
    worth = SHARED_TOKENS if model.device.type == "cpu" else BATCH_TOKENS
    if shared * (len(rows) - 1) < worth:
        return score_batch(model, rows)
    start = torch.tensor([rows[0][0][:shared]], device=model.device)
    cache = model(input_ids=start, use_cache=True, logits_to_keep=1).get(cache_key())
    # layers of other kinds, such as a recurrent state, are not sure to be copied row by row
    if any(type(layer) not in COPIED for layer in getattr(cache, "layers", [None])):
        return score_batch(model, rows)
    cache.batch_repeat_interleave(len(rows))
    # the vectors of a soft prompt stand before the first token only; the cache keeps them
    rest = model.get_base_model() if hasattr(model, "peft_config") else model
    return score_batch(rest, [(ids[shared:], trained[shared:]) for ids, trained in rows], cache)


def alike(rows: Sequence[tuple[list[int], list[bool]]]) -> int:
    """How many tokens all rows begin with; the last one before a target is left to each row."""
    most = min((trained.index(True) if True in trained else len(ids)) for ids, trained in rows) - 1
    at = 0
    while at < most and len({ids[at] for ids, _ in rows}) == 1:
        at += 1
    return at


@torch.no_grad()
def score_batch(
    model: Any, rows: Sequence[tuple[list[int], list[bool]]], cache: Any = None
) -> list[tuple[float, int]]:
    """As `log_probabilities`, of rows that fit one forward pass; `cache` is what was read before.

    With a cache the first token of a row must be no target.
    """
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    seen = torch.zeros(len(rows), width, dtype=torch.long)
    target = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, (ids, trained) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        seen[i, : len(ids)] = 1
        target[i, : len(ids)] = torch.tensor(trained)
    target[:, 0] = False  # the first token has no predictor
    more: dict[str, Any] = {"use_cache": False}
    if cache is not None:
        seen = torch.cat([torch.ones(len(rows), cache.get_seq_length()).long(), seen], dim=1)
        more = {"use_cache": True, cache_key(): cache}
    tokens, seen = tokens.to(model.device), seen.to(model.device)
    logits = model(input_ids=tokens, attention_mask=seen, **more).logits
    before = logits.shape[1] - width  # vectors of a soft prompt stand before the row
    results = []
    for i in range(len(rows)):
        at = target[i].nonzero().flatten().to(model.device)
        picked = torch.log_softmax(
            logits[i, before + at - 1].float(), dim=-1
        )  # (targets, vocabulary)
        each = picked.gather(1, tokens[i, at][:, None])
        results.append((float(each.double().sum()), len(at)))
    return results


@dataclass(frozen=True)
class Mean:
    """A mean over n rows and its standard error."""

    value: float
    error: float
    n: int

    def __str__(self) -> str:
        return f"{self.value:.4f} ± {self.error:.4f} (n={self.n})"


def mean(values: Sequence[float]) -> Mean:
    """The mean of independent rows."""
    n = len(values)
    value = sum(values) / n
    spread = sum((v - value) ** 2 for v in values)
    return Mean(value, math.sqrt(spread / (n - 1) / n) if n > 1 else math.nan, n)


def ratio(totals: Sequence[float], weights: Sequence[float]) -> Mean:
    """sum(totals) / sum(weights), rows being the independent units (ratio estimator)."""
    n, weight = len(totals), sum(weights)
    value = sum(totals) / weight
    spread = sum((t - value * w) ** 2 for t, w in zip(totals, weights, strict=True))
    return Mean(value, math.sqrt(spread * n / (n - 1)) / weight if n > 1 else math.nan, n)


def remembered(path: Path) -> Any:
    """A measurement of an earlier, killed run; None when there is none."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None


def remember(path: Path, value: Any) -> Any:
    """Keep a measurement so that a resumed run need not repeat it."""
    waiting = path.with_suffix(".partial")
    waiting.write_text(json.dumps(value))
    waiting.replace(path)
    return value
