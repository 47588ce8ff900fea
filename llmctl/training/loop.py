"""A run of a trainer: from the newest checkpoint to the end, whatever happens on the way."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from peft import get_peft_model
from transformers import TrainerState
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

from llmctl import preflight, ui
from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError
from llmctl.schema.training import TrainingRecipe
from llmctl.training import callbacks, checkpoints, config, dashboard, guard, measure, split
from llmctl.training.callbacks import Evaluate

R = TypeVar("R", bound=TrainingRecipe)
Steps = list[dict[str, Any]]


def run(
    recipe: R,
    artifact: Artifact,
    policy: Any,
    *,
    load: Callable[[], Any],
    build: Callable[[R, Any], Any],
    evaluate: Evaluate | None = None,
) -> tuple[Any, Steps]:
    """(the trainer at its end, the log of its steps and measurements).

    `build` makes a trainer around a policy. When memory runs out and the recipe has `auto_batch`,
    `load` gives a fresh policy and training goes on from the last checkpoint in smaller batches.
    """
    kept = artifact.scratch / "batch.json"
    recipe = recipe.model_copy(update=measure.remembered(kept) or {})
    while True:
        try:
            trainer = build(recipe, policy)
            steps = fit(trainer, recipe, artifact, evaluate)
        except Exception as error:
            if not guard.ran_out_of_memory(error):
                raise
            policy.to("meta")  # gives its memory back, whoever still holds the model
            smaller = smaller_batch(recipe)
            if not recipe.auto_batch or smaller is None:
                raise LlmctlError(guard.out_of_memory(recipe)) from None
        else:
            artifact.metrics["batch_size_used"] = recipe.batch_size
            return trainer, steps
        gc.collect()
        ui.warn(f"memory ran out; going on with {guard.written(smaller)}")
        measure.remember(kept, smaller)
        recipe, policy = recipe.model_copy(update=smaller), load()


def whole(trainer: Any, load: Callable[[], Any]) -> Any:
    """The trained model as one process has it; None in the processes that write nothing.

    What is shared out is gathered by all and put into a model that `load` gives.
    """
    cut = trainer.is_distributed_loading_by_transformers
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled or cut):
        found = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
        return found if trainer.is_world_process_zero() else None
    if cut:
        weights = split.gathered(trainer.model)
    else:
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not trainer.is_world_process_zero():
        return None
    if trainer.is_deepspeed_enabled:
        unset_hf_deepspeed_config()  # else ZeRO 3 cuts up this model, too, and waits for the others
    found = load()
    adapters = getattr(trainer.model, "peft_config", None)
    if adapters and not hasattr(found, "peft_config"):
        found = get_peft_model(found, adapters["default"])
    found.load_state_dict(weights)
    return found


def fit(
    trainer: Any, recipe: TrainingRecipe, artifact: Artifact, evaluate: Evaluate | None = None
) -> Steps:
    """As `train`, with the figures of the run in the artifact."""
    steps, alarms = train(trainer, artifact.path("metrics.jsonl"), recipe, evaluate)
    artifact.metrics |= {
        "steps": trainer.state.global_step,
        "train_loss": next(row["loss"] for row in reversed(steps) if "loss" in row),
        "alarms": alarms,
    }
    if alarms:
        artifact.summary.append(("alarms", f"{alarms} steps, see metrics.jsonl"))
    measured = [row for row in steps if "eval_loss" in row]
    if measured:
        best = min(measured, key=lambda row: row["eval_loss"])
        artifact.metrics |= {"best_step": best["step"], "best_eval_loss": best["eval_loss"]}
        lowest = f"{best['eval_loss']:.4f} at step {best['step']}"
        artifact.summary.append(("lowest held-out loss", lowest))
    if callbacks.exhausted(trainer.state, recipe.patience):
        artifact.summary.append(("stopped early", f"at step {trainer.state.global_step}"))
    return steps


def train(
    trainer: Any,
    metrics: Path,
    recipe: TrainingRecipe,
    evaluate: Evaluate | None = None,
) -> tuple[Steps, int]:
    """Train to the end from the newest whole checkpoint; (steps and measurements, alarms)."""
    from transformers.trainer_callback import PrinterCallback

    trainer.remove_callback(PrinterCallback)  # it prints to stdout
    folder = Path(trainer.args.output_dir)
    start = checkpoints.newest(folder)
    total = trainer.args.max_steps if trainer.args.max_steps > 0 else steps_of(trainer)
    trainer.args.lr_scheduler_kwargs = config.schedule_options(recipe, total) or None
    trainer.optimizer_cls_and_kwargs = config.optimizer_factory(recipe)
    if recipe.eval_every is not None and evaluate is None:
        ui.warn("eval_every: there is nothing to measure on the way")
    elif recipe.eval_every is not None and evaluate is not None:
        callbacks.measured_by(trainer, evaluate)
        trainer.add_callback(callbacks.Measuring(recipe))
        trainer.args.load_best_model_at_end = recipe.keep_best
    trainer.add_callback(callbacks.Sealing())
    if start is not None:
        state = TrainerState.load_from_json(str(start / "trainer_state.json"))
        if callbacks.exhausted(state, recipe.patience):
            trainer.args.max_steps = state.global_step  # it had ended by itself
        if state.global_step >= total or trainer.args.max_steps == state.global_step:
            # it was killed after its last step; the trainer would make one more before it looks
            trainer._run_epoch = lambda **_: None
    with dashboard.training(total) as show:
        written = callbacks.Metrics(metrics, show, recipe)
        trainer.add_callback(written)
        trainer.train(resume_from_checkpoint=str(start) if start else None)
    log = [row for row in trainer.state.log_history if any(key in row for key in callbacks.ROW)]
    return log, written.alarms


def steps_of(trainer: Any) -> int:
    """Optimizer steps of a run that is measured in epochs."""
    each_pass = trainer.args.per_device_train_batch_size * trainer.args.world_size
    batches = math.ceil(len(trainer.train_dataset) / each_pass)
    each = max(math.ceil(batches / trainer.args.gradient_accumulation_steps), 1)
    epochs: float = trainer.args.num_train_epochs
    return math.ceil(each * epochs)


def smaller_batch(recipe: TrainingRecipe) -> dict[str, int] | None:
    """At most half the batch with as many rows in a step; None when it is one row already."""
    return next(preflight.smaller_batches(recipe), None)
