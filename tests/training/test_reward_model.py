"""objective reward: equal to bare TRL, calibrated, and read by the judge of that name."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import PAIRS, log, recipe, run

from llmctl.errors import InputError
from llmctl.training import calibration

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


def split(folder: Path, **more: Any) -> tuple[Path, Path, list[dict[str, Any]]]:
    rows = [{**json.loads(line), **more} for line in PAIRS.read_text().splitlines()]
    for name, part in (("train", rows[:12]), ("held", rows[12:])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    return folder / "train.jsonl", folder / "held.jsonl", rows


def bare(model: Path, columns: list[dict[str, Any]], folder: Path, **keys: Any) -> list[float]:
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, set_seed
    from trl import RewardConfig, RewardTrainer

    args = RewardConfig(
        output_dir=str(folder), max_steps=4, per_device_train_batch_size=2,
        gradient_accumulation_steps=2, learning_rate=1e-3, lr_scheduler_type="cosine",
        warmup_steps=0.1, max_length=256, bf16=False, gradient_checkpointing=False, use_cpu=True,
        logging_steps=1, save_strategy="no", seed=42, data_seed=42, report_to="none",
        disable_tqdm=True, **keys,
    )  # fmt: skip
    set_seed(42)
    weights: Any = AutoModelForSequenceClassification.from_pretrained(
        model, num_labels=1, dtype=torch.float32
    )
    trainer = RewardTrainer(
        model=weights, args=args, train_dataset=Dataset.from_list(columns),
        processing_class=AutoTokenizer.from_pretrained(model),
    )  # fmt: skip
    trainer.train()
    return [row["loss"] for row in trainer.state.log_history if "loss" in row]


def test_a_run_has_the_curve_of_bare_trl_and_its_model_judges(
    letters: Path, tmp_path: Path
) -> None:
    from llmctl.judges.base import Answered
    from llmctl.judges.reward import RewardJudge
    from llmctl.training import preference, reward_model

    train, held, rows = split(tmp_path, meta={"scores": {"chosen": 4.0, "rejected": 3.5}})
    made = recipe(
        "dpo", letters, train, method="full", max_steps=4, batch_size=2, gradient_accumulation=2,
        data={"validation": str(held)},
        objective={"kind": "reward", "margin": "scores", "center": 0.01},
    )  # fmt: skip
    artifact = run(made, tmp_path / "ours")
    columns = [{k: row[k] for k in ("prompt", "chosen", "rejected")} for row in rows[:12]]
    theirs = bare(
        letters, [{**each, "margin": 0.5} for each in columns], tmp_path / "bare",
        center_rewards_coefficient=0.01,
    )  # fmt: skip
    assert [row["loss"] for row in log(artifact)] == pytest.approx(theirs, abs=1e-5)
    assert {"accuracy_before", "accuracy_after_se", "calibration_error"} <= artifact.metrics.keys()
    assert "How often it is right" in (tmp_path / "ours/report.html").read_text()
    assert {"it helped", "it did not help"} & dict(artifact.summary).keys()

    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = tmp_path / "ours/model"
    row = rows[13]
    answers = [row[name][0]["content"] for name in ("chosen", "rejected")]
    items = [Answered("x", row["prompt"], text) for text in answers]
    with RewardJudge(model=str(folder)).open() as judge:
        scores = [each.score for each in judge.score(items)]
    tokens = preference.tokens_of(AutoTokenizer.from_pretrained(folder), row, "here")
    weights = AutoModelForSequenceClassification.from_pretrained(folder)
    (margin,) = reward_model.margins(weights, [tokens])
    assert scores[0] - scores[1] == pytest.approx(margin, abs=1e-5)


def test_an_adapter_is_merged_with_its_head(letters: Path, tmp_path: Path) -> None:
    train, held, _ = split(tmp_path)
    made = recipe(
        "dpo", letters, train, max_steps=2, data={"validation": str(held)}, objective="reward"
    )
    artifact = run(made, tmp_path / "out")
    assert artifact.metrics["merge_reward_error"] < 1e-4
    assert artifact.model is not None and artifact.model["form"] == "merged"


def test_a_margin_needs_scores(letters: Path, tmp_path: Path) -> None:
    train, held, _ = split(tmp_path)
    made = recipe(
        "dpo", letters, train, data={"validation": str(held)},
        objective={"kind": "reward", "margin": "scores"},
    )  # fmt: skip
    with pytest.raises(InputError, match=r"train.jsonl:1: has no scores for a margin"):
        run(made, tmp_path / "out")


def test_calibration_is_how_often_against_how_sure() -> None:
    sure = math.log(9)  # a probability of 0.9
    found = calibration.reliability([sure] * 9 + [-sure] + [0.1, -0.1])
    assert [(each.n, round(each.right, 2)) for each in found] == [(2, 0.5), (10, 0.9)]
    assert found[1].confidence == pytest.approx(0.9)
    assert calibration.error([sure] * 9 + [-sure]) == pytest.approx(0, abs=1e-9)
    assert calibration.error([sure] * 10) == pytest.approx(0.1)
