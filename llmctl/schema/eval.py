"""What may be asked of `eval`: which model, which tasks, compared with what, and how good."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from llmctl.evaluation.tasks.base import Task
from llmctl.schema.base import Part, Recipe
from llmctl.schema.parts import Device, ModelRef
from llmctl.words import nearest


class Rule(Part):
    """One metric and its limits; the whole confidence interval has to keep each of them."""

    metric: str = Field(
        pattern=r"^[^.]+\.[^.]+$", description="TASK.METRIC, such as choice.accuracy."
    )
    min: float | None = Field(None, description="Smallest value.")
    max: float | None = Field(None, description="Largest value.")
    better: bool = Field(False, description="The model has to be better than the baseline.")
    max_drop: float | None = Field(
        None, ge=0, description="How much worse than the baseline the model may be."
    )

    @model_validator(mode="after")
    def _limited(self) -> Rule:
        if self.min is None and self.max is None and self.max_drop is None and not self.better:
            raise ValueError("give min, max, better or max_drop")
        return self


class EvalRecipe(Recipe):
    """Tasks for a model and, on the same items, for the baseline that it is compared with."""

    impl: ClassVar[int] = 2
    needs: ClassVar[dict[str, str]] = {"torch": "eval", "transformers": "eval", "scipy": "eval"}

    stage: Literal["eval"] = Field(description="Names the stage.")
    model: ModelRef | None = Field(
        None,
        description="What is measured; `retrieval` tasks, and `judge` with `answers`, need none.",
    )
    baseline: ModelRef | None = Field(
        None, description="Model to compare with, on the same items, paired."
    )
    tasks: list[Task] = Field(min_length=1, description="What is measured.")
    limit: int | None = Field(
        None, ge=1, description="Most items of a task, drawn with the seed; all without it."
    )
    confidence: float = Field(0.95, gt=0.5, lt=1, description="Level of every interval.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="Arithmetic; auto is float32 on CPU and bfloat16 on a GPU."
    )
    device: Device = "auto"
    gate: list[Rule] = Field(
        default_factory=list,
        description="What has to hold: exit code 4 when one rule fails, 5 when one cannot be "
        "decided.",
    )
    max_unmeasured: float = Field(
        0.02, ge=0, le=1, description="Share of a task's items that may stay unmeasured."
    )

    @model_validator(mode="after")
    def _consistent(self) -> EvalRecipe:
        titles = [task.title for task in self.tasks]
        twice = {title for title in titles if titles.count(title) > 1}
        if twice:
            raise ValueError(f"two tasks are named '{min(twice)}'; give them a `name`")
        asking = [task.title for task in self.tasks if task.asks_model]
        if self.model is None and asking:
            raise ValueError(f"`model` is missing: the task '{asking[0]}' measures one")
        if self.model is None and self.baseline is not None:
            raise ValueError("`baseline` is compared with a `model`; give one")
        if self.baseline is None:
            for task in self.tasks:
                if getattr(task, "against", None) == "baseline":
                    raise ValueError(f"{task.title}: `against: baseline` needs a `baseline`")
        for rule in self.gate:
            self._check(rule)
        return self

    def _check(self, rule: Rule) -> None:
        title, _, metric = rule.metric.partition(".")
        tasks = {task.title: task for task in self.tasks}
        if title not in tasks:
            near = nearest(title, tasks)
            hint = f", did you mean '{near}'?" if near else f"; there are: {', '.join(tasks)}"
            raise ValueError(f"gate: no task '{title}'{hint}")
        known = tasks[title].metrics
        if known and metric not in known:
            raise ValueError(
                f"gate: {title} has no metric '{metric}'; it measures {', '.join(known)}"
            )
        if self.baseline is None and (rule.better or rule.max_drop is not None):
            raise ValueError(f"gate: {rule.metric} is compared with a baseline; give `baseline`")

    def inputs(self) -> dict[str, Path | str]:
        """The models and what the tasks read."""
        found: dict[str, Path | str] = {} if self.model is None else {"model": self.model}
        if self.baseline is not None:
            found["baseline"] = self.baseline
        for number, task in enumerate(self.tasks):
            for key, ref in task.inputs().items():
                found[f"tasks.{number}.{key}"] = ref
        return found

    def revisions(self) -> dict[str, str]:
        """The versions of the prompts that come with llmctl."""
        return {
            f"tasks.{number}.{key}": version
            for number, task in enumerate(self.tasks)
            for key, version in task.revisions().items()
        }
