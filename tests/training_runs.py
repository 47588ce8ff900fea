"""Run a training stage in this process, on small files."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from llmctl.artifact import Artifact
from llmctl.schema.base import schema_of

ROOT = Path(__file__).parent.parent
CHAT = ROOT / "recipes" / "samples" / "chat.jsonl"
PAIRS = ROOT / "recipes" / "samples" / "pairs.jsonl"
WORDS = (
    *("pump", "valve", "boiler", "wing", "gust", "cloud"),
    *("panel", "cable", "meter", "filter", "engine", "rotor"),
)


def recipe(stage: str, model: Path, rows: Path, **keys: Any) -> Any:
    """A recipe of a few quick steps."""
    small: dict[str, Any] = {"max_steps": 3, "learning_rate": 1e-3, "max_length": 256}
    if keys.get("method", "lora") in ("lora", "qlora") and "adapter" not in keys:
        small["lora"] = {"r": 4}
    data = {"train": str(rows), **keys.pop("data", {})}
    base = {"stage": stage, "out": "out", "model": str(model), "data": data}
    return schema_of(stage).model_validate({**base, **small, **keys})


def run(made: Any, folder: Path) -> Artifact:
    """The artifact that the stage wrote into `folder`."""
    artifact = Artifact(folder)
    import_module(f"llmctl.stages.{made.stage}").run(made, artifact)
    return artifact


def log(artifact: Artifact) -> list[dict[str, Any]]:
    """metrics.jsonl."""
    lines = (artifact.folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def weights(artifact: Artifact) -> list[bytes]:
    """The bytes of the adapter and of the merged model."""
    names = ("adapter/adapter_model.safetensors", "model/model.safetensors")
    return [(artifact.folder / name).read_bytes() for name in names]


def chunks(folder: Path, documents: int = 40) -> Path:
    """chunks.jsonl as ingest writes it: one short chunk a document."""
    rows = []
    for i in range(documents):
        one, two = WORDS[i % 12], WORDS[(i // 12 + 5 * i + 1) % 12]
        text = f"Part {i} is the {one} of the {two}. Ask for number {i} again. It is in store {i}."
        rows.append({
            "id": f"c{i}", "document_id": f"d{i}", "text": text,
            "meta": {"title": f"About {one} and {two} {i}", "headings": ["Parts", f"Store {i}"]},
        })  # fmt: skip
    path = folder / "chunks.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def killed(made: Any, folder: Path, wanted: str) -> None:
    """Run the recipe in a process that gets SIGKILL once that file or folder of a checkpoint is."""
    asked = json.dumps(made.model_dump(mode="json", exclude_unset=True))
    code = (
        "import sys, json; sys.path[:0] = ['tests', '.'];"
        "from pathlib import Path; from training_runs import run;"
        "from llmctl.schema.base import schema_of;"
        f"run(schema_of({made.stage!r}).model_validate(json.loads({asked!r})), "
        f"Path({str(folder)!r}))"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    place = folder / "scratch/checkpoints" / wanted
    while process.poll() is None and not place.exists():
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL


def killed_and_resumed(made: Any, folder: Path, step: int, weights_file: str) -> None:
    """A run that is killed at a step and run again ends with the weights of one that was not."""
    from llmctl.training.callbacks import Metrics

    run(made, folder / "whole")
    on_log = Metrics.on_log

    def killed(self: Any, args: Any, state: Any, *rest: Any, **more: Any) -> None:
        on_log(self, args, state, *rest, **more)
        if state.global_step == step:
            raise KeyboardInterrupt

    with patch.object(Metrics, "on_log", killed), pytest.raises(KeyboardInterrupt):
        run(made, folder / "killed")
    run(made, folder / "killed")
    one, other = ((folder / name / weights_file).read_bytes() for name in ("whole", "killed"))
    assert one == other
