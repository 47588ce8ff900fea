"""Running the dedup stage in a test, without the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from llmctl.artifact import Artifact, Input
from llmctl.schema.dedup import DedupRecipe
from llmctl.stages.dedup import run


def jsonl(path: Path, rows: list[Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def deduped(out: Path, **keys: Any) -> Artifact:
    out.mkdir(parents=True)
    recipe = DedupRecipe.model_validate({"stage": "dedup", "out": out, **keys})
    inputs = {key: Input(key, str(ref), Path(ref), "") for key, ref in recipe.inputs().items()}
    artifact = Artifact(out, inputs)
    run(recipe, artifact)
    return artifact


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]
