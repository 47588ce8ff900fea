"""Prompts and rewards -> a policy that earns more of them, measured before and after."""

from __future__ import annotations

from typing import Any

from peft import get_peft_model
from transformers import set_seed

from llmctl import modelref
from llmctl.alignment.ppo import PpoObjective
from llmctl.artifact import Artifact
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import (
    adapters,
    card,
    config,
    measure,
    model,
    outcome,
    report,
    rollouts,
    vocabulary,
)
from llmctl.training.ppo.actor import Actor
from llmctl.training.ppo.loop import Run, train
from llmctl.training.rollouts import Measured


def align(recipe: DpoRecipe, objective: PpoObjective, artifact: Artifact) -> None:
    """Train the recipe's model on its own answers; write it with its figures."""
    source = modelref.hf_folder(recipe.model)
    vocabulary.check_identity(recipe, source, artifact)
    words = vocabulary.of(recipe, source)
    prompts, held = rollouts.read(recipe, artifact, words.tokenizer)
    rollouts.need_prompts(recipe, prompts)
    policy = adapters.policy(recipe, source, words, artifact)
    if recipe.gradient_checkpointing:
        policy.gradient_checkpointing_enable({"use_reentrant": False})
    frozen = None
    set_seed(recipe.seed)
    if recipe.method == "full":
        frozen = Actor(adapters.policy(recipe, source, words, artifact).requires_grad_(False))
    else:
        policy = get_peft_model(
            policy, config.adapter_of(recipe, source, vocabulary.layers(policy, words))
        )
    with rollouts.rating(objective.rewards, artifact.scratch) as rates:

        def look(each: Any) -> Measured:
            return rollouts.measured(each, words.tokenizer, held, objective, rates, recipe.seed)

        kept = artifact.scratch / "before.json"
        known = measure.remembered(kept) or measure.remember(kept, look(policy).dump())
        before = Measured(**known)
        rollouts.no_signal(before.rewards)
        actor = Actor(policy).to(policy.device)
        run = Run(
            recipe, objective, actor, frozen and frozen.to(policy.device), words.tokenizer,
            prompts, rates, artifact.scratch / "checkpoints",
        )  # fmt: skip
        log = train(run, artifact.path("metrics.jsonl"))
        tuned, form = adapters.finished(actor.policy, words, recipe, artifact, prompts[0].ids)
        after = look(tuned)
    artifact.metrics |= {"steps": log[-1]["step"], "train_loss": log[-1]["loss"]}
    if "stopped" in log[-1]:
        artifact.summary.append(("stopped early", log[-1]["stopped"]))
    texts = []
    if not rollouts.warn_unmeasured(held):
        start = adapters.policy(recipe, source, words, artifact)
        outcome.compare(artifact, before, after, outcome.kl(tuned, start, held, after.answers))
        texts = outcome.texts(held, before, after)
    model.save(tuned, words.tokenizer, artifact, model.stored_dtype(source), recipe.model, form)
    card.write(recipe, artifact)
    report.write(f"ppo: {recipe.model}", artifact, log, (), texts, recipe)
