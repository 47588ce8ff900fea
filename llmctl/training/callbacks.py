"""What is shown and written while the trainer runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from llmctl import rows, ui
from llmctl.errors import LlmctlError


class Metrics(TrainerCallback):
    """metrics.jsonl, one row a step, and the progress line; stops on a loss that is no number."""

    def __init__(self, path: Path, advance: Callable[..., None]) -> None:
        self.path = path
        self.advance = advance
        self.started = time.monotonic()
        self.shown = 0

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Begin with what the checkpoint remembers, so that a resumed run has one curve."""
        rows.write_jsonl(self.path, [row for row in state.log_history if "loss" in row])
        self.started = time.monotonic()

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Move the progress line to the trainer's step."""
        loss = next((r["loss"] for r in reversed(state.log_history) if "loss" in r), None)
        note = f"loss {loss:.3f}" if loss is not None else ""
        self.advance(state.global_step - self.shown, note)
        self.shown = state.global_step

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append one step."""
        if not logs or "loss" not in logs:
            return
        if not math.isfinite(logs["loss"]):
            raise LlmctlError(
                f"step {state.global_step}: the loss is {logs['loss']}; lower learning_rate "
                f"(now {args.learning_rate:g}) or set precision: fp32"
            )
        seconds = round(time.monotonic() - self.started, 3)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(rows.dumps({"step": state.global_step, **logs, "seconds": seconds}) + "\n")


def train(trainer: Any, folder: Path, metrics: Path) -> list[dict[str, Any]]:
    """Train to the end, from the newest whole checkpoint in `folder`; returns the steps' log."""
    from transformers.trainer_callback import PrinterCallback

    from llmctl.training import checkpoints

    trainer.remove_callback(PrinterCallback)  # it prints to stdout
    start = checkpoints.newest(folder)
    if start is not None:
        ui.note(f"continuing from {start.name}")
    total = trainer.args.max_steps if trainer.args.max_steps > 0 else _steps(trainer)
    with ui.progress("training", total) as advance:
        trainer.add_callback(Metrics(metrics, advance))
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    return [row for row in trainer.state.log_history if "loss" in row]


def _steps(trainer: Any) -> int:
    """Optimizer steps of a run that is measured in epochs."""
    batches = math.ceil(len(trainer.train_dataset) / trainer.args.per_device_train_batch_size)
    each = max(math.ceil(batches / trainer.args.gradient_accumulation_steps), 1)
    epochs: float = trainer.args.num_train_epochs
    return math.ceil(each * epochs)
