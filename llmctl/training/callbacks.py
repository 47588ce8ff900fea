"""What is shown, written and measured while the trainer runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import (
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from llmctl import rows, ui
from llmctl.errors import LlmctlError
from llmctl.schema.loop import LoopKeys
from llmctl.training import checkpoints, dashboard
from llmctl.training.spikes import Spikes

Evaluate = Callable[[Any, int], dict[str, float]]
"""A model at a step -> its figures on the held-out rows; of `eval_loss`, lower is better."""
ROW = ("loss", "eval_loss")
"""A row of the log is a step's or a measurement's; the trainer's last is neither."""


class Metrics(TrainerCallback):
    """metrics.jsonl, one row a step, what is shown, and the alarms."""

    def __init__(self, path: Path, show: dashboard.Show, recipe: LoopKeys) -> None:
        self.path = path
        self.show = show
        self.spikes = Spikes(recipe.spike_factor)
        self.stop_on_spike = recipe.stop_on_spike
        self.alarms = 0
        self.started = time.monotonic()
        self.tokens = (self.started, 0.0)
        self.kept = 0.0
        """Tokens before the checkpoint that the run goes on from: TRL counts from 0 again."""

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Begin with what the checkpoint remembers, so that a resumed run has one curve."""
        kept = [
            {"step": row["step"], **row}
            for row in state.log_history
            if any(key in row for key in ROW)
        ]
        for row in kept:
            self.alarms += bool(self.spikes.check(row))
        if state.is_world_process_zero:
            rows.write_jsonl(self.path, kept)
        self.kept = _last(kept, "num_tokens")
        now = time.monotonic()
        self.started = now - _last(kept, "seconds")  # without the time between two runs
        self.tokens = (now, self.kept)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Append one step or one measurement; raise on a loss that is no number."""
        if not logs or not any(key in logs for key in ROW):
            return
        if "num_tokens" in logs:
            logs["num_tokens"] += self.kept
        loss = logs.get("loss", 0.0)
        if not math.isfinite(loss):
            raise LlmctlError(
                f"step {state.global_step}: the loss is {loss}; lower learning_rate "
                f"(now {args.learning_rate:g}) or set precision: fp32"
            )
        jumps = self.spikes.check(logs)
        row: dict[str, Any] = {"step": state.global_step, **logs, **self._speed(logs)}
        if jumps:
            self.alarms += 1
            row["alarm"] = sorted(jumps)
        self.show(state.global_step, row)
        row["seconds"] = round(time.monotonic() - self.started, 3)
        state.log_history[-1] = {**state.log_history[-1], **row}  # what a checkpoint remembers
        if state.is_world_process_zero:
            with self.path.open("a", encoding="utf-8") as file:
                file.write(rows.dumps(row) + "\n")
        if jumps:
            self._alarm(state.global_step, jumps)

    def _speed(self, logs: dict[str, float]) -> dict[str, float]:
        """Tokens a second since the last row, and the memory in use."""
        now = time.monotonic()
        before, seen = self.tokens
        found = {"memory_gb": round(dashboard.memory_gb(), 3)}
        if "num_tokens" in logs:
            self.tokens = (now, logs["num_tokens"])
            found["tokens_per_second"] = round((logs["num_tokens"] - seen) / (now - before), 1)
        return found

    def _alarm(self, step: int, jumps: dict[str, tuple[float, float]]) -> None:
        said = " and ".join(
            f"{key.replace('grad_norm', 'gradient norm')} {value:.3g} (usually {usual:.3g})"
            for key, (value, usual) in jumps.items()
        )
        if self.stop_on_spike:
            raise LlmctlError(
                f"step {step}: {said}; the run ends because of stop_on_spike: look at the rows of "
                "this step, or lower learning_rate"
            )
        ui.warn(f"step {step}: {said}")


def _last(rows: Sequence[Mapping[str, Any]], key: str) -> float:
    """The value of the last row that has the key; 0 when none has."""
    return float(next((row[key] for row in reversed(rows) if key in row), 0.0))


class Sealing(TrainerCallback):
    """Marks each checkpoint as whole once every process has written its part."""

    def on_save(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """The trainer calls this when the last file of a checkpoint is there."""
        if args.world_size > 1:
            torch.distributed.barrier()
        if state.is_world_process_zero:
            checkpoints.seal(Path(args.output_dir) / f"checkpoint-{state.global_step}")


class Measuring(TrainerCallback):
    """Measures on the held-out rows on the way; keeps the best, and ends when nothing improves."""

    def __init__(self, recipe: LoopKeys) -> None:
        assert recipe.eval_every is not None
        self.every = recipe.eval_every
        self.patience = recipe.patience
        self.keep_best = recipe.keep_best

    def on_step_end(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Ask for a measurement when it is time, and at the end."""
        if state.global_step % self.every == 0 or state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Save what is the best so far; the trainer's rotation then spares it."""
        if self.keep_best and _since_best(state) == 0:
            control.should_save = True
        if exhausted(state, self.patience):
            ui.note(
                f"step {state.global_step}: no lower held-out loss in {self.patience} measurements"
            )
            control.should_training_stop = True
            control.should_save = True  # a kill from here on has nothing to train again


def _since_best(state: TrainerState) -> int:
    """Measurements since the one with the lowest held-out loss; 0 when it is the last."""
    losses = [row["eval_loss"] for row in state.log_history if "eval_loss" in row]
    return len(losses) - 1 - losses.index(min(losses)) if losses else 0


def exhausted(state: TrainerState, patience: int | None) -> bool:
    """Whether the held-out loss has not fallen for `patience` measurements."""
    return patience is not None and _since_best(state) >= patience


def measured_by(trainer: Any, evaluate: Evaluate) -> None:
    """Let the trainer measure as the stage does before and after training.

    Its own way averages the batches' means; ours is the loss per token over all held-out rows.
    """

    def measure(*_: Any, **__: Any) -> dict[str, float]:
        training = trainer.model.training
        with ui.no_progress():
            found = evaluate(trainer.model, trainer.state.global_step)
        trainer.model.train(training)
        trainer.log(dict(found))
        trainer.control = trainer.callback_handler.on_evaluate(
            trainer.args, trainer.state, trainer.control, found
        )
        return found

    trainer.evaluate = measure
