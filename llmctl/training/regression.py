"""What alignment cost elsewhere: tasks of `eval` for the model before and after, item by item."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe
from llmctl.schema.eval import EvalRecipe
from llmctl.stages import eval as stage

MODEL = "model"
"""Folder of the aligned weights in the artifact."""


def measure(recipe: DpoRecipe, artifact: Artifact) -> None:
    """Add the tasks' figures, write regression.json and regression.html, warn of what was lost."""
    if not recipe.regression.tasks:
        return
    inner = Artifact(artifact.scratch / "regression")
    inner.folder.mkdir(exist_ok=True)
    ui.note("measuring the tasks of `regression` before and after")
    stage.run(asked(recipe, artifact.folder / MODEL), inner)
    found = json.loads((inner.folder / "results.json").read_text())
    artifact.metrics |= {f"regression.{key}": each for key, each in inner.metrics.items()}
    artifact.summary += inner.summary
    artifact.write_json("regression.json", found)
    artifact.write_text("regression.html", (inner.folder / "report.html").read_text())
    if worse := lost(found):
        ui.warn(f"worse than before beyond the error: {', '.join(worse)}; see regression.html")


def asked(recipe: DpoRecipe, model: Path) -> EvalRecipe:
    """The recipe of `eval` that does the measuring."""
    keys: dict[str, Any] = {
        "stage": "eval",
        "out": "regression",
        "model": str(model),
        "baseline": recipe.model,
        "limit": recipe.regression.limit,
        "seed": recipe.seed,
        "tasks": recipe.regression.tasks,
        "max_unmeasured": 1.0,
    }
    return EvalRecipe.model_validate(keys)


def lost(found: dict[str, Any]) -> list[str]:
    """TASK.METRIC whose difference lies on the bad side with its whole interval of 95 %."""
    return [
        f"{title}.{name}"
        for title, task in found["tasks"].items()
        for name, each in task["metrics"].items()
        if (difference := each.get("difference")) is not None
        and None not in (difference["low"], difference["high"])
        and (difference["low"] > 0 if each["lower_is_better"] else difference["high"] < 0)
    ]
