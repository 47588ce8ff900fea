"""Checkpoints of a PPO run: what a killed run needs to go on as if nothing had happened.

Samples and batches are drawn from the seed and the number of the step, so no random state is kept.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import torch

KEPT = 2
"""A kill in the middle of the newest leaves the one before it."""


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `checkpoint-STEP`, whole or not at all; older ones go."""
    path = folder / f"checkpoint-{step}"
    waiting = folder / f"waiting-{step}"
    waiting.mkdir(parents=True, exist_ok=True)
    torch.save(state, waiting / "state.pt")
    if path.exists():
        shutil.rmtree(path)
    waiting.replace(path)
    for old in found(folder)[KEPT:]:
        shutil.rmtree(old)


def found(folder: Path) -> list[Path]:
    """The checkpoints, the newest first."""
    return sorted(
        folder.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True
    )


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read; broken ones are removed."""
    for path in found(folder):
        try:
            state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True)
            return state
        except Exception:  # whatever is wrong with it, the one before is used
            shutil.rmtree(path)
    return None
