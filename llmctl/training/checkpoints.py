"""Which checkpoint a killed run continues from: the newest that is whole."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

from safetensors import SafetensorError, safe_open

from llmctl import ui
from llmctl.errors import LlmctlError

WEIGHTS = ("adapter_model.safetensors", "model.safetensors")


def newest(folder: Path) -> Path | None:
    """The newest whole checkpoint; broken ones are removed with a warning."""
    found = [p for p in folder.glob("checkpoint-*") if p.name.rpartition("-")[2].isdigit()]
    for path in sorted(found, key=lambda p: int(p.name.rpartition("-")[2]), reverse=True):
        problem = broken(path)
        if problem is None:
            return path
        ui.warn(f"{path.name} is not whole ({problem}); the one before it is used")
        shutil.rmtree(path)
    return None


def broken(path: Path) -> str | None:
    """What is wrong with a checkpoint; None when it can be continued from."""
    step = int(path.name.rpartition("-")[2])
    try:
        state = json.loads((path / "trainer_state.json").read_bytes())
        if state.get("global_step") != step:
            return f"trainer_state.json is of step {state.get('global_step')}"
        for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
            with zipfile.ZipFile(path / name) as file:
                bad = file.testzip()
            if bad is not None:
                return f"{name} is damaged"
        weights = [path / name for name in WEIGHTS if (path / name).is_file()]
        shards = list(path.glob("model-*-of-*.safetensors"))
        if not weights and not shards:
            return "it has no weights"
        for each in (*weights, *shards):
            with safe_open(str(each), framework="pt") as tensors:
                tensors.keys()
    except FileNotFoundError as error:
        return f"{Path(str(error.filename)).name} is missing"
    except (OSError, ValueError, zipfile.BadZipFile, SafetensorError) as error:
        return str(error).splitlines()[0]
    return None


WRITING = ("inline_container", "PytorchStreamWriter", "unexpected pos")
"""What torch says when a file of a checkpoint could not be written to its end."""


def explain(error: RuntimeError, folder: Path) -> None:
    """Raise what a user can act on when a checkpoint could not be written; else return."""
    if not any(text in str(error) for text in WRITING):
        return
    whole = [path.name for path in sorted(folder.glob("checkpoint-*")) if broken(path) is None]
    kept = f"whole checkpoints: {', '.join(whole)}" if whole else "there is no checkpoint yet"
    raise LlmctlError(
        f"{folder}: a checkpoint could not be written to its end, the disk is full or a limit of "
        f"file size is reached; {kept}; free some space and run again to continue"
    ) from None
