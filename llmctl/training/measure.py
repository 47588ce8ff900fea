"""Log-probabilities of held-out rows, and means with their standard errors."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmctl import ui

BATCH_TOKENS = 2048


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
def score_batch(
    model: Any, rows: Sequence[tuple[list[int], list[bool]]]
) -> list[tuple[float, int]]:
    """As `log_probabilities`, of rows that fit one forward pass."""
    width = max(len(ids) for ids, _ in rows)
    tokens = torch.zeros(len(rows), width, dtype=torch.long)
    seen = torch.zeros(len(rows), width, dtype=torch.long)
    target = torch.zeros(len(rows), width, dtype=torch.bool)
    for i, (ids, trained) in enumerate(rows):
        tokens[i, : len(ids)] = torch.tensor(ids)
        seen[i, : len(ids)] = 1
        target[i, : len(ids)] = torch.tensor(trained)
    target[:, 0] = False  # the first token has no predictor
    tokens, seen = tokens.to(model.device), seen.to(model.device)
    logits = model(input_ids=tokens, attention_mask=seen, use_cache=False).logits
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
