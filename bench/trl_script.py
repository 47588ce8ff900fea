"""What a user of TRL would write: `python bench/trl_script.py SETTINGS.json`; llmctl is not loaded.

LoRA on conversations with the loss on the last answer, the held-out loss before and after, and the
merged model saved beside the adapter: what `llmctl sft` does with the same settings (bench/sft.py).
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer


def encoded(tokenizer: Any, path: str, limit: int) -> Dataset:
    """Token ids with the prompt and what follows the end of the answer masked."""
    found = []
    for line in Path(path).read_text(encoding="utf-8").splitlines():
        talk = json.loads(line)["messages"]
        ids = tokenizer.apply_chat_template(talk, return_dict=True)["input_ids"]
        asked = tokenizer.apply_chat_template(
            talk[:-1], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        mask = [0] * len(asked) + [1] * (len(ids) - len(asked) - 1) + [0]
        if len(ids) <= limit:
            found.append({"input_ids": ids, "completion_mask": mask})
    return Dataset.from_list(found)


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    out = Path(settings["out"])
    tokenizer = AutoTokenizer.from_pretrained(settings["model"])
    train, held = (
        encoded(tokenizer, settings[name], settings["max_length"]) for name in ("train", "held")
    )
    args = SFTConfig(
        output_dir=str(out), max_steps=settings["max_steps"] or -1, num_train_epochs=1,
        per_device_train_batch_size=1,
        per_device_eval_batch_size=1, learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine", warmup_steps=settings["warmup"], weight_decay=0.0,
        max_length=settings["max_length"], packing=True, completion_only_loss=True, bf16=False,
        gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none",
        eval_packing=False, use_cpu=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = SFTTrainer(
        model=AutoModelForCausalLM.from_pretrained(settings["model"], dtype=torch.float32),
        args=args,
        train_dataset=train,
        eval_dataset=held,
        processing_class=tokenizer,
        peft_config=LoraConfig(
            task_type="CAUSAL_LM", r=settings["r"], lora_alpha=settings["alpha"],
            lora_dropout=0.0, target_modules="all-linear",
        ),
    )  # fmt: skip
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    trainer.save_model(str(out / "adapter"))
    trainer.model.merge_and_unload().save_pretrained(str(out / "model"))
    tokenizer.save_pretrained(str(out / "model"))
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    (out / "losses.json").write_text(json.dumps({"losses": losses, "held": [before, after]}))


if __name__ == "__main__":
    main()
