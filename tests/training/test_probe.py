"""`plan --probe`: a few steps of every kind of training tell the time of the whole run."""

from __future__ import annotations

import json
import time
from itertools import count
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")
pytest.importorskip("sentence_transformers")
from tiny_tokenizer import tiny_llama
from training_runs import CHAT, PAIRS, chunks, log, recipe, run

from llmctl.errors import RecipeError
from llmctl.schema.sft import SftRecipe
from llmctl.training import probe

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


def prompts(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    rows = [{"prompt": [{"role": "user", "content": f"say {n}"}]} for n in range(20)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


PAID = {"rewards": [{"kind": "regex", "pattern": "[a-m]"}], "max_new_tokens": 4}
HELD: dict[str, Any] = {"data": {"hold_out": 0.2}, "max_steps": None, "epochs": 3}
KINDS: dict[str, tuple[dict[str, Any], int]] = {
    "causal": ({"eval_every": 5, "keep_best": True, "packing": False}, 0),
    "direct": ({"checks": {"judge": {"kind": "match"}}, "answers": {"rows": 2}}, 0),
    "reward": ({"objective": {"kind": "reward"}}, 0),
    # 16 prompts are learnt from: eight answers a step, three times
    "ppo": ({"batch_size": 4, "objective": {"kind": "ppo", "rollouts": 8, **PAID}}, 6),
    # two answers to each of four prompts a step, learnt from twice, three times
    "grpo": (
        {
            "batch_size": 8, "gradient_accumulation": 1,
            "objective": {"kind": "grpo", "generations": 2, "iterations": 2, **PAID},
        },
        24,
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_a_probe_of_a_language_model_tells_the_time(
    letters: Path, tmp_path: Path, kind: str
) -> None:
    keys, steps = KINDS[kind]
    rows = {"causal": CHAT, "direct": PAIRS, "reward": PAIRS}.get(kind) or prompts(tmp_path)
    stage = "sft" if kind == "causal" else "dpo"
    found = probe.lines(recipe(stage, letters, rows, **HELD, **keys), {})
    said = found["probe: training"]
    assert f"for {steps} steps" in said if steps else " steps, without" in said
    for line in (found["probe: one step"], said):
        assert float(line.split()[0]) > 0


@pytest.mark.parametrize("kind", ["embedding", "reranker"])
def test_a_probe_of_an_encoder_tells_the_time(
    tiny_encoder: Path, tmp_path: Path, kind: str
) -> None:
    task: dict[str, Any] = {"kind": kind, "queries": ["title"]}
    if kind == "reranker":
        task |= {"embedder": {"kind": "sentence_transformers", "model": str(tiny_encoder)}}
    asks = recipe(
        "sft", tiny_encoder, chunks(tmp_path), task=task, method="full", max_length=32,
        batch_size=4, gradient_accumulation=2, **HELD,
    )  # fmt: skip
    found = probe.lines(asks, {})
    # 32 of 40 documents, eight in a step, three times
    assert "for 12 steps" in found["probe: training"]


def test_a_classifier_has_no_steps_to_time(tmp_path: Path) -> None:
    about = {"stage": "sft", "out": "out", "model": str(tmp_path), "data": {"train": "rows"}}
    asks = SftRecipe.model_validate({**about, "task": "classifier"})
    with pytest.raises(RecipeError, match="--probe: task: classifier solves for its head"):
        probe.lines(asks, {})


def test_seconds_of_ppo_are_those_since_the_training_began(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = count(0, 10)
    monkeypatch.setattr(time, "monotonic", lambda: float(next(clock)))
    keys, _ = KINDS["ppo"]
    asks = recipe("dpo", letters, prompts(tmp_path), data={"hold_out": 0.2}, **keys)
    seconds = [row["seconds"] for row in log(run(asks, tmp_path / "out"))]
    assert len(seconds) == 3 and seconds == sorted(set(seconds))
