"""A few steps of a training recipe, to tell how long the whole run takes and what it holds."""

from __future__ import annotations

import math
import tempfile
from importlib import import_module
from pathlib import Path
from typing import Any

from llmctl import preflight, rows, ui
from llmctl.artifact import Artifact, Input, peak_memory_mb
from llmctl.errors import RecipeError
from llmctl.schema.training import TrainingRecipe

STEPS = 3
"""The first one warms up."""


def lines(recipe: TrainingRecipe, inputs: dict[str, Input]) -> dict[str, str]:
    """What `plan --probe` adds: seconds a step, time of the whole run, memory at its peak.

    The run is made in a temporary folder without samples, measurements on the way, judges and
    trackers.
    """
    first = rounds(recipe)
    short = shortened(recipe, max(STEPS, 2 * first))
    with tempfile.TemporaryDirectory(prefix="llmctl-probe-") as folder:
        artifact = Artifact(Path(folder), inputs)
        quiet = ui.is_quiet()
        ui.configure(quiet=True)
        try:
            import_module(f"llmctl.stages.{recipe.stage}").run(short, artifact)
        finally:
            ui.configure(quiet=quiet)
        ends = [row["seconds"] for row in rows.read(Path(folder) / "metrics.jsonl")]
    if len(ends) > first:
        each = (ends[-1] - ends[first - 1]) / (len(ends) - first)
    else:  # a run that its recipe stopped at once
        each = ends[-1] / len(ends)
    steps = recipe.max_steps or _steps(recipe, artifact)
    found = {
        "probe: one step": _time(each),
        "probe: training": f"{_time(each * steps)} for {steps} steps, without measuring and saving",
        "probe: memory": preflight.gigabytes(peak_memory_mb() * 2**20),
    }
    tokens = artifact.metrics.get("train_tokens")
    if tokens and recipe.max_steps is None:
        found["probe: tokens"] = f"{round(tokens * recipe.epochs):,}"
    return found


def rounds(recipe: TrainingRecipe) -> int:
    """Steps that have to be seen together: those on the same sampled answers."""
    return int(getattr(getattr(recipe, "objective", None), "iterations", 1))


def shortened(recipe: TrainingRecipe, steps: int) -> TrainingRecipe:
    """The recipe with so many steps and nothing beside them."""
    task = getattr(recipe, "task", None)
    if task is not None and not task.has_steps:
        raise RecipeError(
            f"--probe: task: {task.kind} solves for its head at once, there are no steps to time"
        )
    # not validated again: keys that are switched off here may be refused by the kind at hand
    less: dict[str, Any] = {
        key: type(recipe).model_fields[key].get_default(call_default_factory=True)
        for key in ("eval_every", "patience", "keep_best", "tracking", "launch", "auto_batch")
    }
    less |= {"max_steps": steps, "save_every": steps + 1}
    less["samples"] = recipe.samples.model_copy(update={"rows": 0, "prompts": ()})
    off: dict[str, dict[str, Any]] = {
        "checks": {"judge": None}, "answers": {"judge": None, "rows": 0},
        "regression": {"tasks": []},
    }  # fmt: skip
    for key, none in off.items():
        if hasattr(recipe, key):
            less[key] = getattr(recipe, key).model_copy(update=none)
    return recipe.model_copy(update=less)


def _steps(recipe: TrainingRecipe, artifact: Artifact) -> int:
    """Optimizer steps of all epochs; packs are counted as full."""
    count = artifact.metrics.get("train_rows") or artifact.metrics.get("train_pairs") or 1
    if getattr(recipe, "packing", False) and "train_tokens" in artifact.metrics:
        count = math.ceil(artifact.metrics["train_tokens"] / recipe.max_length)
    return recipe.steps_of(count)


def _time(seconds: float) -> str:
    """For people: 0.034 s, 2.1 s, 75 s, 21 min, 3.4 h."""
    if seconds < 100:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
