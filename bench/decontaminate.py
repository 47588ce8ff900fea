"""Decontamination: planted and rephrased benchmark items among 200,000 rows.

    python bench/decontaminate.py DATA [--rows 200000] [--semantic]

DATA has gsm8k, mmlu, arc, truthfulqa, humaneval, ifeval, t0_templates, hh_rlhf and decontamination
(gzip JSONL). The clean rows are GSM8K's training questions with their answers and pieces of real
templates and dialogues. Into some of them benchmark items are planted: as they are, reformatted
(case, spaces, punctuation), and with 5, 10 and 20 % of their words replaced. `--semantic` measures
the embedding pass on GSM8K's test questions as rephrased by a language model.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))
KINDS = ("verbatim", "reformatted", "5 %", "10 %", "20 %")


def rows(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def items(data: Path) -> list[str]:
    """Questions of the test and validation parts, one of each."""
    found = list[str]()
    files = [data / "gsm8k/test.jsonl.gz", data / "humaneval/test.jsonl.gz"]
    files += [data / "ifeval/train.jsonl.gz", *sorted((data / "mmlu").rglob("test*.jsonl.gz"))]
    files += sorted((data / "arc").rglob("test*.jsonl.gz"))
    files += sorted((data / "truthfulqa").rglob("*.jsonl.gz"))
    for file in files:
        found += [r.get("question") or r.get("prompt") for r in rows(file)]
    return list(dict.fromkeys(text for text in found if text))


def reformatted(text: str, chance: random.Random) -> str:
    text = text.upper() if chance.random() < 0.5 else text.lower()
    text = re.sub(r"([,.?!])", r" \1 ", text)
    return re.sub(r" +", lambda m: chance.choice([" ", "  ", "\n"]), text)


def edited(text: str, share: float, words: list[str], chance: random.Random) -> str:
    return " ".join(chance.choice(words) if chance.random() < share else w for w in text.split(" "))


def clean(data: Path, count: int, chance: random.Random) -> list[str]:
    """Real text that is no benchmark's: templates and dialogues, cut and joined to new rows."""
    found = [f"{r['prompt']}\n{r.get('completion', '')}" for r in rows(
        data / "t0_templates/rows.jsonl.gz")]  # fmt: skip
    for r in rows(data / "hh_rlhf/test.jsonl.gz"):
        found += [str(r["chosen"]), str(r["rejected"])]
    while len(found) < count:
        one, other = chance.choice(found), chance.choice(found)
        found.append(one[: len(one) // 2] + "\n" + other[len(other) // 2 :])
    return found[:count]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--planted", type=int, default=2000, help="items of each kind")
    parser.add_argument("--semantic", action="store_true")
    args = parser.parse_args()
    if args.semantic:
        semantic(args.data)
        return
    from llmctl.data import kernels
    from llmctl.data.dedupers.base import Rows
    from llmctl.data.detectors.base import Detector
    from llmctl.schema.dedup import EDITED

    chance = random.Random(1)
    wanted = items(args.data)
    train = [f"{r['question']}\n{r['answer']}" for r in rows(args.data / "gsm8k/train.jsonl.gz")]
    texts = train + clean(args.data, args.rows - len(train), chance)
    words = sorted({w for text in train for w in text.split()})
    # an item of few words is found whole or not at all: it cannot be edited by 5 %
    long = [i for i, item in enumerate(wanted) if len(re.findall(r"\w+", item)) >= 8]
    planted = dict[int, tuple[str, int]]()
    for kind in KINDS:
        free = chance.sample(range(len(train), len(texts)), args.planted)
        for row, item in zip(free, chance.choices(long, k=args.planted), strict=True):
            text = wanted[item]
            if kind == "reformatted":
                text = reformatted(text, chance)
            elif kind != "verbatim":
                text = edited(text, int(kind[:-2]) / 100, words, chance)
            half = len(texts[row]) // 2
            texts[row] = f"{texts[row][:half]}\n{text}\n{texts[row][half:]}"
            planted[row] = (kind, item)
    size = sum(map(len, texts)) / 1e6
    print(
        f"{len(texts)} rows ({size:.0f} MB), {len(wanted)} items ({len(long)} of 8 words or more)"
    )
    print("| rule | " + " | ".join(f"recall {k}" for k in KINDS), end="")
    print(" | false: GSM8K train | false: other rows | rows/s (CPU) |")
    print("|---" * (len(KINDS) + 4) + "|")
    both = set[tuple[int, int]]()
    for rule in (
        {"kind": "overlap"},
        EDITED,
        {"kind": "overlap", "coverage": 0.3},
        {"kind": "overlap", "ngram": 13, "coverage": 0.001},
        {"kind": "overlap", "unit": "characters", "ngram": 50},
    ):
        detector = Detector.of(rule)
        view = Rows(texts, 0, kernels.kernel(), 1)
        start = time.process_time()
        found = detector.find(wanted, view, np.arange(len(texts)))
        seconds = time.process_time() - start
        hit = set(zip(found.row[found.drop].tolist(), found.item[found.drop].tolist(), strict=True))
        told = [(detector.rule, hit, f"{len(texts) / seconds:,.0f}")]
        if rule in ({"kind": "overlap"}, EDITED):
            both |= hit
            told += [("both, the default", both, "")] if rule is EDITED else []
        for name, each, speed in told:
            gone = {row for row, _ in each}
            recall = defaultdict(list)
            for row, (kind, item) in planted.items():
                recall[kind].append((row, item) in each)
            shown = [f"{np.mean(recall[kind]):.4f}" for kind in KINDS]
            own = len([r for r in gone if r < len(train)]) / len(train)
            rest = set(range(len(train), len(texts))) - set(planted)
            other = len(gone & rest) / len(rest)
            print(
                f"| {name} | {' | '.join(shown)} | {own:.4%} | {other:.4%} | {speed} |", flush=True
            )


def semantic(data: Path) -> None:
    """The share of rephrased items whose own original is among what is flagged."""
    from llmctl.data import kernels
    from llmctl.data.dedupers.base import Rows
    from llmctl.data.detectors.base import Detector

    wanted = [r["question"] for r in rows(data / "gsm8k/test.jsonl.gz")]
    texts = [
        re.sub(r"^Question: |\nAnswer:.*", "", r["text"], flags=re.S)
        for r in rows(data / "decontamination/rephrase_gsm8k.jsonl.gz")
    ]
    train = [r["question"] for r in rows(data / "gsm8k/train.jsonl.gz")][:1319]
    detector = Detector.of("semantic")
    start = time.process_time()
    view = Rows(texts + train, 0, kernels.kernel())
    found = detector.find(wanted, view, np.arange(len(texts) + len(train)))
    flagged = set(found.row.tolist())
    own = {row for row, item in zip(found.row.tolist(), found.item.tolist(), strict=True)
           if row == item}  # fmt: skip
    print(
        f"{detector.rule}: {len([r for r in flagged if r < len(texts)]) / len(texts):.4f} of ",
        end="",
    )
    print(
        f"{len(texts)} rephrased questions are flagged, {len(own) / len(texts):.4f} by their own ",
        end="",
    )
    false = len([r for r in flagged if r >= len(texts)]) / len(train)
    print(f"original; {false:.4f} of {len(train)} ", end="")
    print(f"other questions of the same kind; {time.process_time() - start:.0f} s CPU")


if __name__ == "__main__":
    main()
