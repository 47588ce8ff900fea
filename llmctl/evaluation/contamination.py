"""What is known of a task's items in the data that the model was trained on, by the lineage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import artifact as artifacts
from llmctl import digest, lineage, shards
from llmctl.errors import InputError

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.evaluation.tasks.base import Item, Task

COUNTS = ("items", "items_found", "rows_dropped", "rows_flagged")


def known(artifact: Artifact, key: str) -> list[dict[str, Any]]:
    """The contamination tables of all dedup stages behind a model, newest first."""
    model = artifact.inputs.get(key)
    if model is None or model.manifest is None or model.manifest_path is None:
        return []
    found: list[dict[str, Any]] = []
    for step in lineage.chain(model.manifest_path.parent, model.manifest):
        manifest = artifacts.read_manifest(Path(step["path"])) if step["stage"] == "dedup" else None
        if manifest is not None:
            found += manifest["metrics"].get("contamination", [])
    return found


def of_task(task: Task, items: list[Item], tables: list[dict[str, Any]]) -> dict[str, int] | None:
    """Counts of the task's benchmarks, added up; None when the data was not searched for them."""
    leaves = {f"lm-eval:{item.cluster}" for item in items} if task.kind == "lm_eval" else set()
    digests = _digests(task)
    rows = [row for row in tables if row["data"] in leaves or row["sha256"] in digests]
    if not rows:
        return None
    unique = {(row["benchmark"], row["data"]): row for row in reversed(rows)}.values()
    return {name: sum(row[name] for row in unique) for name in COUNTS}


def _digests(task: Task) -> set[str]:
    """Digests that the files of a task have, whole or as a test split."""
    if task.kind == "lm_eval":
        return set()
    found = set()
    for path in task.inputs().values():
        if not isinstance(path, Path):
            continue  # a model that judges
        found.add(digest.of_path(path))
        try:
            found.add(shards.digest_of(shards.find(path, "test")))
        except InputError:  # a task may read text instead of rows
            continue
    return found


def told(found: dict[str, int] | None) -> str:
    """The counts in words."""
    if found is None:
        return "not searched for in the training data"
    if not found["items_found"]:
        return f"none of {found['items']} items found in the training data"
    return (
        f"{found['items_found']} of {found['items']} items found in the training data: "
        f"{found['rows_dropped']} rows dropped before training, "
        f"{found['rows_flagged']} only flagged"
    )
