"""Standard benchmarks as lm-evaluation-harness defines them, from local data when there is any.

The task's definition stays as it is published: its data is found because `datasets` prefers a
folder that is named like the hub id, seen from the working directory.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.errors import InputError
from llmctl.evaluation.tasks.base import Item, Scored, Task, draw


class LmEvalTask(Task):
    """A task of lm-eval by its name; its own metrics for each item, such as acc and acc_norm."""

    needs: ClassVar[dict[str, str]] = {"lm-eval": "eval", "datasets": "eval"}

    task: str = Field(
        min_length=1, description="Name of a task or group in lm-eval, such as arc_easy."
    )
    data: Path | None = Field(
        None,
        description="Folder with the data sets under their hub ids, such as allenai/ai2_arc; "
        "without it the hub or its cache.",
    )
    shots: int = Field(0, ge=0, description="Solved examples in front of each item.")
    chat: bool = Field(False, description="Put the prompt into the model's chat template.")
    batch_size: int = Field(8, ge=1, description="Requests in one forward pass.")

    @property
    def title(self) -> str:
        """The benchmark's own name, when the recipe gives none."""
        return self.name or self.task

    def inputs(self) -> dict[str, Path | str]:
        """The folder of data, when there is one."""
        return {"data": self.data} if self.data is not None else {}

    def options(self) -> dict[str, Any]:
        """Keywords of `simple_evaluate`."""
        return {"num_fewshot": self.shots or None, "apply_chat_template": self.chat}

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """The documents of every leaf task, `limit` of each."""
        found = []
        with self.loaded() as (_, tasks):
            for name, task in tasks.items():
                count = len(list(task.eval_docs))
                for number in draw(range(count), limit, seed):
                    found.append(Item(f"{name}:{number}", name, {"task": name, "doc": number}))
        if not found:
            raise InputError(f"lm-eval's {self.task} has no documents")
        return found

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """Every numeric metric of each document; answered requests are kept in `work`."""
        from lm_eval import simple_evaluate

        cache = str(work.resolve() / "requests")  # before the working directory changes
        wanted: dict[str, list[int]] = {}
        for item in items:
            wanted.setdefault(item.data["task"], []).append(item.data["doc"])
        with self.loaded() as (manager, tasks):
            found = simple_evaluate(
                model=self.harness(session),
                tasks=[task for name, task in tasks.items() if name in wanted],
                task_manager=manager,
                samples=wanted,
                use_cache=cache,
                bootstrap_iters=0,
                **self.options(),
            )
        assert found is not None
        scored = {
            f"{name}:{sample['doc_id']}": sample
            for name, samples in found["samples"].items()
            for sample in reversed(samples)  # the first filter's, where there are several
        }
        for item in items:
            yield _scored(scored[item.id])

    def harness(self, session: Any) -> Any:
        """The model as lm-eval takes it."""
        from lm_eval.models.huggingface import HFLM

        return HFLM(
            pretrained=session.model, tokenizer=session.tokenizer, batch_size=self.batch_size
        )

    @contextlib.contextmanager
    def loaded(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """(task manager, task name -> leaf task), seen from the folder of the data."""
        import datasets

        from llmctl.modelref import silenced

        folder = (self.data or Path()).resolve()
        if not folder.is_dir():
            raise InputError(f"{folder}: is not a folder of data sets")
        offline = datasets.config.HF_HUB_OFFLINE
        datasets.config.HF_HUB_OFFLINE = offline or self.data is not None
        try:
            with contextlib.chdir(folder), silenced():
                yield self._tasks()
        finally:
            datasets.config.HF_HUB_OFFLINE = offline

    def _tasks(self) -> tuple[Any, dict[str, Any]]:
        import lm_eval
        from lm_eval.tasks import TaskManager

        # one folder instead of an index of 16,000 files, when the task's file bears its name
        shipped = Path(lm_eval.__file__).parent / "tasks"
        own = next(iter(sorted(shipped.rglob(f"{self.task}.yaml"))), None)
        manager = (
            TaskManager(include_path=str(own.parent), include_defaults=False)
            if own is not None
            else TaskManager()
        )
        if self.task not in manager.all_tasks:
            manager = TaskManager()
        if self.task not in manager.all_tasks:
            from llmctl.words import nearest

            near = nearest(self.task, manager.all_tasks)
            hint = f", did you mean '{near}'?" if near else ""
            raise InputError(f"lm-eval has no task '{self.task}'{hint}")
        # without examples in the prompt no training split is needed, which local data may lack
        changed = {} if self.shots else {"training_split": None}
        spec = {"group": "llmctl", "task": [{"task": self.task, **changed}]}
        try:
            tasks: dict[str, Any] = manager.load([spec])["tasks"]
        except Exception as error:  # whatever a builder of data sets raises
            first = str(error).strip().splitlines() or [type(error).__name__]
            where = self.data or "the hub"
            raise InputError(
                f"{self.task}: its data cannot be read from {where}: {first[0]}"
            ) from None
        return manager, tasks


def _scored(sample: dict[str, Any]) -> Scored:
    values = {}
    for name in sample["metrics"]:
        value = sample[name]
        if isinstance(value, int | float):  # others are made for a whole corpus
            values[name] = float(value)
    if not values:
        return Scored(unmeasured=f"no number per item, only {', '.join(sample['metrics'])}")
    return Scored(values, shown={"answer": str(sample["target"])})
