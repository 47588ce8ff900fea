"""One update of the actor's weights, and the learning rate over a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import Trainer, TrainingArguments, get_scheduler

from llmctl.alignment.ppo import PpoObjective
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import config


@dataclass(frozen=True)
class Learner:
    """What changes the actor's weights."""

    accelerator: Any
    actor: Any
    optimizer: Any
    scheduler: Any

    def update(self, loss: Tensor, max_grad_norm: float) -> dict[str, float]:
        """One update; the norm of the gradient before it is clipped, and the rate."""
        rate = float(self.optimizer.param_groups[0]["lr"])
        self.accelerator.backward(loss)
        norm = self.accelerator.clip_grad_norm_(self.actor.parameters(), max_grad_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.scheduler.step()
        return {"grad_norm": float(norm), "learning_rate": rate}


def optimizer_of(recipe: DpoRecipe, args: TrainingArguments, actor: nn.Module) -> Optimizer:
    """The recipe's optimizer of what is trained, as transformers' trainer would build it."""
    made = config.optimizer_factory(recipe)
    if made is not None:
        factory, options = made
        own: Optimizer = factory()(actor, **options)
        return own
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
    weights = [each for each in actor.parameters() if each.requires_grad]
    found: Optimizer = kind(weights, weight_decay=recipe.weight_decay, **options)
    return found


def schedule(recipe: DpoRecipe, objective: PpoObjective, optimizer: Any, total: int) -> Any:
    """The rate over all updates of `total` steps: a step of rate zero would sample in vain."""
    updates = objective.passes * objective.rollouts // recipe.batch_size
    warm = recipe.warmup if recipe.warmup >= 1 else recipe.warmup * total
    return get_scheduler(
        config.SCHEDULERS.get(recipe.scheduler, recipe.scheduler),
        optimizer,
        math.ceil(warm * updates),
        total * updates,
        config.schedule_options(recipe, total * updates) or None,
    )
