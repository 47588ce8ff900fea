"""The chain of manifests: from a served model back to the source documents."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmctl import artifact as artifacts
from llmctl import digest, shards, ui
from llmctl.errors import InputError, LlmctlError
from llmctl.runner import differences
from llmctl.schema.base import leaves


def _open(path: Path) -> tuple[Path, dict[str, Any]]:
    if not path.exists():
        raise InputError(f"{path}: no such artifact")
    owner = artifacts.owner_of(path)
    if owner is None:
        raise InputError(f"{path}: has no {artifacts.MANIFEST}; llmctl did not make it")
    return owner


def chain(folder: Path, manifest: dict[str, Any], depth: int = 0) -> Iterator[dict[str, Any]]:
    """The artifact and, below it, everything that it was made from, with its state now."""
    yield {
        "depth": depth,
        "stage": manifest["stage"],
        "path": str(folder),
        "key": manifest["key"],
        "made": manifest["timing"]["started"],
        "state": artifacts.changed_output(folder, manifest) or "intact",
    }
    for key, row in manifest["inputs"].items():
        made_by = Path(row["manifest"]).parent if "manifest" in row else None
        below = artifacts.read_manifest(made_by) if made_by is not None else None
        if made_by is not None and below is not None and below["key"] == row["key"]:
            yield from chain(made_by, below, depth + 1)
            continue
        yield {
            "depth": depth + 1,
            "stage": row.get("stage", "source"),
            "path": row["ref"],
            "input": key,
            "sha256": row["sha256"],
            "state": _source_state(row, reread=False),
        }


def _source_state(row: dict[str, Any], *, reread: bool) -> str:
    path = Path(row["path"]) if "path" in row else None
    if path is None:
        return "not on this machine"
    files = shards.listed(path) if shards.is_pattern(path) else []
    if not path.exists() and not files:
        return "missing"
    if "manifest" in row:
        return "made again since"
    now = shards.digest_of(files, reread) if files else digest.of_path(path, reread=reread)
    return "intact" if now == row["sha256"] else "changed"


def show(path: Path, as_json: bool) -> None:
    """Print the chain on stdout."""
    steps = list(chain(*_open(path)))
    if as_json:
        ui.result(json.dumps(steps, indent=1))
        return
    for step in steps:
        mark = "" if step["depth"] == 0 else "   " * (step["depth"] - 1) + "`- "
        state = "" if step["state"] == "intact" else f"  ({step['state']})"
        sha = step.get("key") or step["sha256"]
        ui.result(f"{mark}{step['stage']}  {step['path']}  {sha.removeprefix('hub:')[:12]}{state}")


def verify(path: Path) -> None:
    """Re-read the whole chain; raises LlmctlError with a line for each thing that differs."""
    wrong: list[str] = []
    checked = _verify(*_open(path), wrong, set())
    if wrong:
        raise LlmctlError("\n".join(wrong))
    ui.result(f"{path}: {checked} artifacts and sources are as their manifests say")


def _verify(folder: Path, manifest: dict[str, Any], wrong: list[str], seen: set[str]) -> int:
    if str(folder.resolve()) in seen:
        return 0
    seen.add(str(folder.resolve()))
    problem = artifacts.changed_output(folder, manifest, reread=True)
    if problem:
        wrong.append(f"{folder}: {problem}")
    checked = 1
    for key, row in manifest["inputs"].items():
        made_by = Path(row["manifest"]).parent if "manifest" in row else None
        below = artifacts.read_manifest(made_by) if made_by is not None else None
        if made_by is not None and below is None:
            wrong.append(f"{folder}: {key}: the artifact {made_by} is missing")
        elif made_by is not None and below is not None:
            if below["key"] != row["key"]:
                wrong.append(f"{folder}: {key}: {made_by} was made again since")
            checked += _verify(made_by, below, wrong, seen)
        elif "path" in row:
            name = f"{row['path']}"
            if name not in seen:
                seen.add(name)
                checked += 1
            state = _source_state(row, reread=True)
            if state != "intact":
                wrong.append(f"{folder}: {key}: {name} is {state}")
    return checked


def diff(a: Path, b: Path, as_json: bool) -> None:
    """Print what differs between two artifacts of one stage."""
    (_, one), (_, two) = _open(a), _open(b)
    if one["stage"] != two["stage"]:
        raise InputError(f"{a} is of `{one['stage']}`, {b} of `{two['stage']}`")
    lines = differences(one, two["recipe"], two["key_parts"])
    before, now = dict(leaves(one["metrics"])), dict(leaves(two["metrics"]))
    for loc in dict.fromkeys([*before, *now]):
        if before.get(loc) != now.get(loc):
            name = ".".join(map(str, loc))
            lines.append(f"metric: {name} {before.get(loc)} -> {now.get(loc)}")
    if as_json:
        ui.result(json.dumps(lines, indent=1, ensure_ascii=False))
    else:
        ui.result("\n".join(lines) if lines else "no difference in recipe, inputs or metrics")
