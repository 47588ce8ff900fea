"""dpo on a model of two layers: equal to TRL, and pairs that teach nothing are named."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from training_runs import PAIRS, log, recipe, run, weights

from llmctl.artifact import Artifact, Input
from llmctl.errors import InputError

pytestmark = pytest.mark.model


def test_the_losses_are_those_of_bare_trl(tiny_model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig, DPOTrainer

    lines = PAIRS.read_text().splitlines()
    train, held = tmp_path / "train.jsonl", tmp_path / "held.jsonl"
    train.write_text("\n".join(lines[:12]) + "\n")
    held.write_text("\n".join(lines[12:]) + "\n")
    made = recipe("dpo", tiny_model, train, max_steps=10, data={"validation": str(held)})
    ours = [row["loss"] for row in log(run(made, tmp_path / "a"))]

    rows = [json.loads(line) for line in lines[:12]]
    columns = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    args = DPOConfig(
        output_dir=str(tmp_path / "b"), max_steps=10, per_device_train_batch_size=1,
        gradient_accumulation_steps=4, learning_rate=1e-3, lr_scheduler_type="cosine",
        warmup_steps=0.1, max_length=256, bf16=False, gradient_checkpointing=False, use_cpu=True,
        logging_steps=1, save_strategy="no", seed=42, data_seed=42, beta=0.1,
        report_to="none", disable_tqdm=True,
    )  # fmt: skip
    trainer = DPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32),
        args=args, train_dataset=Dataset.from_list(columns),
        processing_class=AutoTokenizer.from_pretrained(tiny_model),
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules="all-linear", lora_dropout=0
        ),
    )  # fmt: skip
    trainer.train()
    theirs = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    assert ours[0] == pytest.approx(0.6931, abs=1e-4)  # the policy begins as the reference
    assert ours == pytest.approx(theirs, abs=1e-5)


def test_a_run_measures_and_repeats(tiny_model: Path, tmp_path: Path) -> None:
    made = recipe("dpo", tiny_model, PAIRS, max_steps=3)
    artifact = run(made, tmp_path / "a")
    for name in (
        "preference_before",
        "preference_after",
        "preference_diff",
        "reward_accuracy",
    ):
        assert {name, f"{name}_se"} <= artifact.metrics.keys()
    assert artifact.metrics["eval_rows"] == 3
    assert artifact.metrics["reward_margin"] > 0
    assert weights(artifact) == weights(run(made, tmp_path / "b"))


def test_identical_answers_leave_with_a_reason(tiny_model: Path, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in PAIRS.read_text().splitlines()]
    rows[2]["rejected"] = rows[2]["chosen"]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = recipe("dpo", tiny_model, file, max_steps=1, data={"hold_out": 0})
    artifact = run(made, tmp_path / "a")
    dropped = json.loads((tmp_path / "a/dropped.jsonl").read_text())
    assert dropped["reason"] == "identical_answers"
    assert dropped["where"].endswith("pairs.jsonl:3")
    assert artifact.dropped == {"identical_answers": 1}
    assert "preference_after" not in artifact.metrics  # no held-out pair, no figure


def test_a_model_that_changed_its_template_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    manifest = {"model": {"tokenizer": "a" * 64, "chat_template": "b" * 64}}
    given = Input("model", str(tiny_model), tiny_model, "", manifest)
    artifact = Artifact(tmp_path, {"model": given})
    made = recipe("dpo", tiny_model, PAIRS)
    from llmctl.stages.dpo import run as stage

    with pytest.raises(InputError, match=r"model: .* its tokenizer is not the one"):
        stage(made, artifact)


def test_the_command_refuses_a_bad_pair_in_one_line(
    llmctl: Any, tiny_model: Path, tmp_path: Path
) -> None:
    row = json.loads(PAIRS.read_text().splitlines()[0])
    row["chosen"] = row["prompt"] + row["chosen"]
    file = tmp_path / "pairs.jsonl"
    file.write_text(PAIRS.read_text() + json.dumps(row) + "\n")
    recipe_file = tmp_path / "r.yaml"
    recipe_file.write_text(
        f"stage: dpo\nout: {tmp_path}/out\nmodel: {tiny_model}\ndata: {{train: {file}}}\n"
    )
    done = llmctl("dpo", recipe_file, "-q")
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert "pairs.jsonl:17: `chosen` repeats the prompt" in done.stderr
