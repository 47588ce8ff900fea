"""A run that is killed anywhere, even while it writes a checkpoint, ends with the same bytes."""

from __future__ import annotations

import json
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import CHAT, PAIRS, killed, log, recipe, run, weights

from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError
from llmctl.training import checkpoints

pytestmark = pytest.mark.model

KEYS: dict[str, Any] = {
    "max_steps": 4,
    "save_every": 1,
    "gradient_accumulation": 1,
    "samples": {"rows": 0},
}


@pytest.fixture(scope="module")
def whole(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed, with its checkpoints."""
    folder = tmp_path_factory.mktemp("whole")
    run(recipe("sft", tiny_model, CHAT, **KEYS), folder)
    return folder


def counted(folder: Path) -> list[float]:
    """Tokens up to each step, as the log has them."""
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["num_tokens"] for line in lines]


def outcome(folder: Path) -> list[bytes]:
    names = ("adapter/adapter_model.safetensors", "model/model.safetensors")
    return [(folder / name).read_bytes() for name in names]


def test_a_process_killed_while_it_trains_and_saves_continues(
    tiny_model: Path, tmp_path: Path, whole: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SIGKILL as soon as some file of a checkpoint appears, twice."""
    made = recipe("sft", tiny_model, CHAT, **KEYS)
    for step, name in ((2, "optimizer.pt"), (3, "adapter_model.safetensors")):
        killed(made, tmp_path, f"checkpoint-{step}/{name}")
    artifact = run(made, tmp_path)
    assert weights(artifact) == outcome(whole)
    assert counted(tmp_path) == counted(whole)
    rows = log(artifact)
    assert [set(row) for row in rows] == [set(row) for row in log(Artifact(whole))]
    assert all(row["tokens_per_second"] > 0 and row["memory_gb"] > 0 for row in rows)
    seconds = [row["seconds"] for row in rows]
    assert seconds == sorted(set(seconds))
    said = capsys.readouterr().err
    assert said.index("continuing from checkpoint-2: 2 of 4 steps") < said.index("is learnt")


def test_a_killed_dpo_has_the_curve_of_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL in the middle of a checkpoint; and after the last step, amid an epoch."""
    made = recipe("dpo", tiny_llama(tmp_path / "letters"), PAIRS, batch_size=2, **KEYS)
    untouched = run(made, tmp_path / "whole")
    losses = [row["loss"] for row in log(untouched)]
    assert len(losses) == KEYS["max_steps"]
    killed(made, tmp_path / "killed", "checkpoint-3/optimizer.pt")
    shutil.copytree(tmp_path / "whole/scratch/checkpoints", tmp_path / "late/scratch/checkpoints")
    for name in ("killed", "late"):
        again = run(made, tmp_path / name)
        assert [row["loss"] for row in log(again)] == losses
        assert counted(tmp_path / name) == counted(tmp_path / "whole")
        assert weights(again) == weights(untouched)
        assert again.metrics["reward_margin"] == untouched.metrics["reward_margin"]


@pytest.mark.parametrize("damage", ["cut", "lost", "no seal", "changed", "step"])
def test_a_damaged_checkpoint_is_passed_over(
    whole: Path, tmp_path: Path, damage: str, capsys: Any
) -> None:
    folder = tmp_path / "checkpoints"
    shutil.copytree(whole / "scratch/checkpoints", folder)
    newest = folder / "checkpoint-4"
    optimizer = newest / "optimizer.pt"
    if damage == "cut":
        os.truncate(optimizer, optimizer.stat().st_size // 2)
    elif damage == "lost":
        (newest / "scheduler.pt").unlink()
    elif damage == "no seal":
        (newest / checkpoints.SEAL).unlink()
    elif damage == "changed":
        data = bytearray(optimizer.read_bytes())
        data[len(data) // 2] ^= 255
        optimizer.write_bytes(data)
    else:
        (newest / "trainer_state.json").write_text("{}")
    found = checkpoints.newest(folder)
    assert found is not None and found.name == "checkpoint-3"
    assert "warning: checkpoint-4 is not whole (" in capsys.readouterr().err
    assert not newest.exists()


def test_a_disk_that_fills_in_the_middle_of_a_save(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A limit of file size stands for the disk: the second checkpoint's optimizer is too large."""
    keys = {**KEYS, "max_steps": 2, "method": "full"}
    del keys["samples"]
    made = recipe("sft", tiny_model, CHAT, samples={"rows": 0}, **keys)
    untouched = run(made, tmp_path / "a")
    size = (tmp_path / "a/scratch/checkpoints/checkpoint-2/optimizer.pt").stat().st_size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    seal = checkpoints.seal

    def filling(path: Path) -> None:
        seal(path)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size * 3 // 4, before[1]))

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "seal", filling)
        try:
            with pytest.raises(LlmctlError) as error:
                run(made, tmp_path / "b")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert "the disk is full" in str(error.value) and "\n" not in str(error.value)
    assert "whole checkpoints: checkpoint-1;" in str(error.value)
    model = "model/model.safetensors"
    again = run(made, tmp_path / "b")
    assert (again.folder / model).read_bytes() == (untouched.folder / model).read_bytes()
