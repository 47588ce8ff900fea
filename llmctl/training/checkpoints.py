"""Which checkpoint a killed run continues from: the newest that is whole."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from llmctl import ui

SEAL = "whole.json"


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; broken ones are removed with a warning."""
    for path in found(folder):
        problem = broken(path)
        if problem is None:
            return path
        ui.warn(f"{path.name} is not whole ({problem}); the one before it is used")
        shutil.rmtree(path)
    return None


def told(folder: Path) -> str | None:
    """What a run that is continued has behind it, by its newest checkpoint; none is looked into."""
    for path in found(folder):
        try:
            state = json.loads((path / "trainer_state.json").read_bytes())
            return f"{path.name}: {state['global_step']} of {state['max_steps']} steps are done"
        except (OSError, ValueError, KeyError, TypeError):
            continue  # torn; `newest` says so
    return None


def found(folder: Path) -> list[Path]:
    """The checkpoints of a run, whole or not, the newest first."""
    named = [p for p in folder.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    return sorted(named, key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)


def seal(path: Path) -> None:
    """Say that a checkpoint is whole: its files with their sizes, written last."""
    sizes = {
        each.relative_to(path).as_posix(): each.stat().st_size
        for each in sorted(path.rglob("*"))
        if each.is_file() and each.name != SEAL
    }
    waiting = path / f"{SEAL}.partial"
    waiting.write_text(json.dumps(sizes), encoding="utf-8")
    waiting.replace(path / SEAL)


def broken(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it can be continued from."""
    step = int(path.name.rpartition("-")[2])
    try:
        sizes = json.loads((path / SEAL).read_bytes())
        state = json.loads((path / "trainer_state.json").read_bytes())
        if state.get("global_step") != step:
            return f"trainer_state.json is of step {state.get('global_step')}"
        for name, size in sizes.items():
            if (path / name).stat().st_size != size:
                return f"{name} has {(path / name).stat().st_size} bytes, not {size}"
            if problem := _damaged(path / name):
                return problem
    except FileNotFoundError as error:
        missing = Path(str(error.filename)).name
        return "it was not written to its end" if missing == SEAL else f"{missing} is missing"
    except (OSError, ValueError, AttributeError, zipfile.BadZipFile, SafetensorError) as error:
        return str(error).splitlines()[0]
    return None


def _damaged(file: Path) -> str | None:
    """What torch or safetensors could not read of a file."""
    if file.suffix == ".safetensors":
        with safe_open(str(file), framework="pt") as tensors:
            tensors.keys()
    elif file.suffix in (".pt", ".pth"):
        with zipfile.ZipFile(file) as archive:
            if archive.testzip() is not None:
                return f"{file.name} is damaged"
    return None
