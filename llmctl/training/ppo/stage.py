"""Prompts and rewards -> a policy that earns more of them, measured before and after."""

from __future__ import annotations

from peft import get_peft_model
from transformers import set_seed

from llmctl.alignment.ppo import PpoObjective
from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import config, online, vocabulary
from llmctl.training.ppo.actor import Actor
from llmctl.training.ppo.loop import Run, train


def align(recipe: DpoRecipe, objective: PpoObjective, artifact: Artifact) -> None:
    """Train the recipe's model on its own answers; write it with its figures."""
    with online.opened(recipe, objective, artifact) as it:
        policy = it.fresh()
        if recipe.gradient_checkpointing:
            policy.gradient_checkpointing_enable({"use_reentrant": False})
        frozen = None
        set_seed(recipe.seed)
        if recipe.method == "full":
            frozen = Actor(it.fresh().requires_grad_(False))
        else:
            layers = vocabulary.layers(policy, it.words)
            policy = get_peft_model(policy, config.adapter_of(recipe, it.source, layers))
        before = it.before(policy)
        actor = Actor(policy).to(policy.device)
        run = Run(
            recipe, objective, actor, frozen and frozen.to(policy.device), it.words.tokenizer,
            it.train, it.rates, artifact.scratch / "checkpoints",
        )  # fmt: skip
        log, alarms = train(run, artifact.path("metrics.jsonl"))
        tuned, form = it.finished(actor.policy)
        after = it.look(tuned)
    artifact.metrics |= {
        "steps": log[-1]["step"],
        "train_loss": log[-1]["loss"],
        "alarms": alarms,
    }
    if alarms:
        artifact.summary.append(("alarms", f"{alarms} steps, see metrics.jsonl"))
    if "stopped" in log[-1]:
        artifact.summary.append(("stopped early", log[-1]["stopped"]))
    it.write(tuned, form, before, after, log)
