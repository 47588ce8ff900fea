"""Three steps of a training recipe, to tell how long the whole run takes and what it holds."""

from __future__ import annotations

import math
import tempfile
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from statistics import median

from llmctl import preflight, rows, ui
from llmctl.artifact import Artifact, Input, peak_memory_mb
from llmctl.schema.training import TrainingRecipe

STEPS = 3


def lines(recipe: TrainingRecipe, inputs: dict[str, Input]) -> dict[str, str]:
    """What `plan --probe` adds: seconds a step, time of the whole run, memory at its peak.

    The run is made in a temporary folder without samples, measurements on the way and trackers.
    """
    asked = recipe.model_dump(exclude_unset=True) | {"max_steps": STEPS, "samples": {"rows": 0}}
    for key in ("eval_every", "patience", "keep_best", "tracking", "launch", "auto_batch"):
        asked.pop(key, None)
    short = type(recipe).model_validate(asked | {"save_every": STEPS + 1})
    with tempfile.TemporaryDirectory(prefix="llmctl-probe-") as folder:
        artifact = Artifact(Path(folder), inputs)
        quiet = ui.is_quiet()
        ui.configure(quiet=True)
        try:
            import_module(f"llmctl.stages.{recipe.stage}").run(short, artifact)
        finally:
            ui.configure(quiet=quiet)
        ends = [row["seconds"] for row in rows.read(Path(folder) / "metrics.jsonl")]
    each = median(b - a for a, b in pairwise(ends))  # the first one warms up
    steps = recipe.max_steps or _steps(recipe, artifact)
    found = {
        "probe: one step": f"{each:.2f} s",
        "probe: training": f"{each * steps:.0f} s for {steps} steps, without measuring and saving",
        "probe: memory": preflight.gigabytes(peak_memory_mb() * 2**20),
    }
    tokens = artifact.metrics.get("train_tokens")
    if tokens and recipe.max_steps is None:
        found["probe: tokens"] = f"{round(tokens * recipe.epochs):,}"
    return found


def _steps(recipe: TrainingRecipe, artifact: Artifact) -> int:
    """Optimizer steps of all epochs; packs are counted as full."""
    count = artifact.metrics.get("train_rows") or artifact.metrics.get("train_pairs") or 1
    if getattr(recipe, "packing", False) and "train_tokens" in artifact.metrics:
        count = math.ceil(artifact.metrics["train_tokens"] / recipe.max_length)
    return max(math.ceil(count / recipe.rows_a_step() * recipe.epochs), 1)
