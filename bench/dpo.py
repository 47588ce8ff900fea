"""Is `llmctl dpo` what bare TRL gives? The losses of 30 steps, side by side, on a tiny Llama.

    python bench/dpo.py            # about a minute of CPU; prints the largest difference of each

Same rows, seed and settings: DPO with every weight, with LoRA, with the reference's
log-probabilities computed first, a reward model, and KTO. TRL shuffles all but KTO's rows, which it
reads in order, so those are shuffled here as llmctl does.
"""

from __future__ import annotations

import json
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
STEPS = 30
SETTINGS: dict[str, Any] = {
    "max_steps": STEPS, "per_device_train_batch_size": 2, "gradient_accumulation_steps": 2,
    "learning_rate": 1e-3, "lr_scheduler_type": "cosine", "warmup_steps": 0.1, "max_length": 256,
    "bf16": False, "gradient_checkpointing": False, "use_cpu": True, "logging_steps": 1,
    "save_strategy": "no", "seed": 42, "data_seed": 42, "report_to": "none", "disable_tqdm": True,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "DPO, every weight": {"method": "full"},
    "DPO, LoRA": {},
    "DPO, reference first": {"method": "full", "precompute_reference": True},
    "reward model": {"method": "full", "objective": "reward"},
    "KTO": {"method": "full", "loss": "kto"},
}


def ours(model: Path, train: Path, held: Path, folder: Path, keys: dict[str, Any]) -> list[float]:
    """The losses of a run of the stage."""
    from training_runs import log, recipe, run

    made = recipe(
        "dpo", model, train, max_steps=STEPS, batch_size=2, gradient_accumulation=2,
        data={"validation": str(held)}, **keys,
    )  # fmt: skip
    return [row["loss"] for row in log(run(made, folder)) if "loss" in row]


def bare(
    model: Path, rows: list[dict[str, Any]], folder: Path, keys: dict[str, Any]
) -> list[float]:
    """The losses of TRL's own trainer on the same rows."""
    import torch
    import trl
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        AutoTokenizer,
        set_seed,
    )
    from transformers.trainer_callback import PrinterCallback

    columns = [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
    more: dict[str, Any] = {"beta": 0.1}
    options: dict[str, Any] = {"dtype": torch.float32}
    load: Callable[..., Any] = AutoModelForCausalLM.from_pretrained
    trainer, config = trl.DPOTrainer, trl.DPOConfig
    if keys.get("objective") == "reward":
        trainer, config, more = trl.RewardTrainer, trl.RewardConfig, {}
        load, options = (
            AutoModelForSequenceClassification.from_pretrained,
            options | {"num_labels": 1},
        )
    elif keys.get("loss") == "kto":
        trainer, config = trl.KTOTrainer, trl.KTOConfig
        columns = [
            {"prompt": row["prompt"], "completion": row[name], "label": name == "chosen"}
            for row in columns
            for name in ("chosen", "rejected")
        ]
        Random(42).shuffle(columns)
    set_seed(42)
    lora = None
    if "method" not in keys:
        lora = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=32, target_modules="all-linear")
    made = trainer(
        model=load(model, **options),
        args=config(output_dir=str(folder), **SETTINGS, **more),
        train_dataset=Dataset.from_list(columns),
        processing_class=AutoTokenizer.from_pretrained(model),
        peft_config=lora,
    )
    made.remove_callback(PrinterCallback)
    made.train()
    return [row["loss"] for row in made.state.log_history if "loss" in row]


def main() -> None:
    from tiny_tokenizer import tiny_llama

    logging.disable(logging.WARNING)
    lines = (ROOT / "recipes/samples/pairs.jsonl").read_text().splitlines()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = tiny_llama(folder / "model")
        train, held = folder / "train.jsonl", folder / "held.jsonl"
        train.write_text("\n".join(lines[:12]) + "\n")
        held.write_text("\n".join(lines[12:]) + "\n")
        rows = [json.loads(line) for line in lines[:12]]
        print(f"| case | loss, first | loss, last | largest difference in {STEPS} steps |")
        print("|---|---:|---:|---:|")
        for number, (case, keys) in enumerate(CASES.items()):
            mine = ours(model, train, held, folder / f"ours-{number}", keys)
            theirs = bare(model, rows, folder / f"bare-{number}", keys)
            gap = max(abs(a - b) for a, b in zip(mine, theirs, strict=True))
            print(f"| {case} | {mine[0]:.4f} | {mine[-1]:.4f} | {gap:.1e} |", flush=True)
            if gap > 1e-5:
                sys.exit(f"{case}: the curves part")


if __name__ == "__main__":
    main()
