"""What the trainer's callbacks see of this loop: metrics.jsonl, the table, alarms and trackers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments
from transformers.integrations import get_reporting_integration_callbacks

from llmctl.schema.dpo import DpoRecipe
from llmctl.training import config, dashboard
from llmctl.training.callbacks import Metrics

SKIPPED = ("max_length",)
"""Settings that only TRL's trainers have."""


def settings(recipe: DpoRecipe, folder: Path) -> TrainingArguments:
    """What the callbacks read of a run; made before accelerate's state, which it resets."""
    shared = {k: v for k, v in config.arguments(recipe, folder).items() if k not in SKIPPED}
    return config.made(TrainingArguments, **shared)


@dataclass
class Watch:
    """Calls the callbacks as the trainer does."""

    args: TrainingArguments
    state: TrainerState
    model: Any
    written: Metrics
    trackers: list[Any]

    def call(self, event: str, **more: Any) -> None:
        """Tell them of an event of the trainer."""
        for each in (*self.trackers, self.written):
            getattr(each, event)(self.args, self.state, TrainerControl(), model=self.model, **more)

    def step(self, row: dict[str, Any]) -> None:
        """A step's figures; an alarm, or a loss that is no number, may end the run here."""
        self.state.global_step = row["step"]
        self.state.log_history.append(row)
        self.call("on_log", logs=row)


@contextmanager
def watching(
    recipe: DpoRecipe,
    args: TrainingArguments,
    model: Any,
    metrics: Path,
    log: list[dict[str, Any]],
    total: int,
) -> Iterator[Watch]:
    """A run to its end; `log` has the steps that were made before and gets those to come."""
    trackers = [kind() for kind in get_reporting_integration_callbacks(args.report_to)]
    state = TrainerState(log_history=log, max_steps=total)
    with dashboard.training(total) as show:
        found = Watch(args, state, model, Metrics(metrics, show, recipe), trackers)
        found.call("on_train_begin")
        yield found
        found.call("on_train_end")
