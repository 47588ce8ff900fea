"""Means with errors, and checkpoints that are not whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from safetensors.torch import save_file

from llmctl.training import checkpoints
from llmctl.training.measure import mean, ratio


def test_a_mean_has_the_error_of_the_textbook() -> None:
    found = mean([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert found.error == pytest.approx((5 / 3) ** 0.5 / 2)  # sd / sqrt(n)


def test_a_ratio_of_equal_weights_is_a_mean() -> None:
    values = [1.0, 2.0, 3.0, 5.0]
    assert ratio([2 * v for v in values], [2] * 4).error == pytest.approx(mean(values).error)


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"a": torch.zeros(3)}, path / name)
    save_file({"a": torch.zeros(3)}, path / "adapter_model.safetensors")
    checkpoints.seal(path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "trainer_state.json",
        "optimizer.pt",
        "rng_state.pth",
        "adapter_model.safetensors",
    ],
)
@pytest.mark.parametrize("how", ["missing", "half", "empty"])
def test_a_broken_checkpoint_is_passed_over(
    tmp_path: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert checkpoints.newest(tmp_path) == newer
    content = (newer / name).read_bytes()
    (newer / name).unlink()
    if how != "missing":
        (newer / name).write_bytes(content[: len(content) // 2] if how == "half" else b"")
    assert checkpoints.newest(tmp_path) == older
    assert "checkpoint-10 is not whole" in capsys.readouterr().err
    assert not newer.exists()
