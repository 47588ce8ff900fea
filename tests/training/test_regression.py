"""What alignment cost elsewhere: tasks of `eval` before and after, in the run of `dpo`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import PAIRS, ROOT, recipe, run

from llmctl.training import regression

pytestmark = pytest.mark.model

SAMPLES = ROOT / "recipes" / "samples"


def test_tasks_are_measured_for_the_model_before_and_after(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model")
    tasks = [
        {"kind": "choice", "data": str(SAMPLES / "choice.jsonl")},
        {"kind": "preference", "data": str(PAIRS)},
    ]
    made = recipe("dpo", model, PAIRS, regression={"tasks": tasks, "limit": 6}, learning_rate=0.05)
    assert made.inputs()["regression.tasks.0.data"] == SAMPLES / "choice.jsonl"
    artifact = run(made, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "regression.json").read_text())
    assert found["baseline"] == str(model) and found["model"] == str(tmp_path / "out" / "model")
    assert {name: task["items"] for name, task in found["tasks"].items()} == {
        "choice": 6, "preference": 6,
    }  # fmt: skip
    margin = artifact.metrics["regression.preference.margin_diff"]
    assert margin != 0, "the weights have moved"
    assert any(name == "preference.margin" for name, _ in artifact.summary)
    assert "<html" in (tmp_path / "out" / "regression.html").read_text()


def test_what_was_lost_is_told_by_its_whole_interval() -> None:
    def task(low: float | None, high: float | None, lower_is_better: bool = False) -> dict:
        change = {"value": 0, "low": low, "high": high}
        return {"metrics": {"m": {"lower_is_better": lower_is_better, "difference": change}}}

    tasks = {
        "worse": task(-0.2, -0.1), "better": task(0.1, 0.2), "unclear": task(-0.1, 0.1),
        "loss": task(0.1, 0.2, lower_is_better=True), "one": task(None, None),
        "apart": {"metrics": {"m": {"lower_is_better": False, "no_difference": "tokenizers"}}},
    }  # fmt: skip
    assert regression.lost({"tasks": tasks}) == ["worse.m", "loss.m"]


def test_what_cannot_be_measured_is_one_line(tmp_path: Path) -> None:
    task = {"kind": "choice", "data": "a.jsonl"}
    with pytest.raises(ValueError, match="two tasks are named 'choice'"):
        recipe("dpo", tmp_path, PAIRS, regression={"tasks": [task, task]})
    with pytest.raises(ValueError, match="regression says nothing to objective: reward"):
        recipe("dpo", tmp_path, PAIRS, objective="reward", regression={"tasks": [task]})
