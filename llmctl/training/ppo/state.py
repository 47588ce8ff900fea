"""Checkpoints of a PPO run: what a killed run needs to go on as if nothing had happened.

Samples and batches are drawn from the seed and the number of the step, so no random state is kept.
They are sealed as those of every other training.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch

from llmctl.training import checkpoints

KEPT = 2
"""A kill in the middle of the newest leaves the one before it."""


def save(folder: Path, step: int, state: dict[str, Any]) -> None:
    """Write `checkpoint-STEP`, whole or not at all; older ones go."""
    path = folder / f"checkpoint-{step}"
    waiting = folder / f"waiting-{step}"
    shutil.rmtree(waiting, ignore_errors=True)  # of a run that was killed, or had no room
    waiting.mkdir(parents=True)
    torch.save(state, waiting / "state.pt")
    (waiting / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    checkpoints.seal(waiting)
    if path.exists():
        shutil.rmtree(path)
    waiting.replace(path)
    for old in checkpoints.found(folder)[KEPT:]:
        shutil.rmtree(old)


def newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that is whole; broken ones are removed with a warning."""
    path = checkpoints.newest(folder)
    if path is None:
        return None
    state: dict[str, Any] = torch.load(path / "state.pt", weights_only=True)
    return state
