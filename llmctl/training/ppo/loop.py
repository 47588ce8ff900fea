"""The loop: sample, rate, estimate advantages, and several passes of small steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import torch
from accelerate import Accelerator

from llmctl import ui
from llmctl.alignment.ppo import PpoObjective
from llmctl.rewards.base import Rate
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import config, rollouts
from llmctl.training.ppo import losses, state
from llmctl.training.ppo.actor import Actor, Batch, batch, looked_at, reference
from llmctl.training.ppo.advantages import gae, masked_mean, token_rewards, whiten
from llmctl.training.ppo.learner import Learner, optimizer_of, schedule
from llmctl.training.ppo.penalty import Penalty
from llmctl.training.ppo.watch import settings, watching
from llmctl.training.rollouts import Prompt, Runaway

Row = dict[str, Any]


@dataclass
class Run:
    """What a run is made of; `log` has one row for each step."""

    recipe: DpoRecipe
    objective: PpoObjective
    actor: Actor
    frozen: Actor | None
    tokenizer: Any
    prompts: Sequence[Prompt]
    rates: Sequence[Rate]
    folder: Path
    log: list[Row] = field(default_factory=list)


def penalty_of(recipe: DpoRecipe, objective: PpoObjective) -> Penalty:
    """How strongly the policy is held at the start, and what that is adapted to."""
    return Penalty(recipe.beta, objective.target_kl, objective.horizon)


def drawn(run: Run, step: int) -> list[Prompt]:
    """The prompts of a step: every prompt once before one comes again, in an order of the seed."""
    count, n = run.objective.rollouts, len(run.prompts)
    found = []
    for position in range(step * count, (step + 1) * count):
        order = list(range(n))
        Random(f"{run.recipe.seed} {position // n}").shuffle(order)
        found.append(run.prompts[order[position % n]])
    return found


def train(run: Run, metrics: Path) -> tuple[list[Row], int]:
    """Train to the end, from the newest checkpoint; (the rows of metrics.jsonl, alarms)."""
    recipe, objective = run.recipe, run.objective
    total = recipe.max_steps or recipe.steps_of(len(run.prompts))
    args = settings(recipe, run.folder)
    accelerator = Accelerator(cpu=not config.on_gpu(), mixed_precision=_mixed(recipe))
    optimizer: Any = optimizer_of(recipe, args, run.actor)
    scheduler = schedule(recipe, objective, optimizer, total)
    actor, optimizer = accelerator.prepare(run.actor, optimizer)
    learner = Learner(accelerator, actor, optimizer, scheduler)
    penalty = penalty_of(recipe, objective)
    runaway = Runaway(objective.stop_kl, objective.stop_length)
    first = _continued(run, learner, penalty, runaway)
    with watching(recipe, args, run.actor.policy, metrics, run.log, total) as watch:
        for step in range(first, total):
            if run.log and run.log[-1].get("stopped"):
                break
            row = _step(run, learner, penalty, step)
            why = runaway.check(row["kl"], row["length"])
            if why:
                ui.warn(f"step {step + 1}: {why}; the run ends here")
                row["stopped"] = why
            watch.step(row | {"beta": penalty.beta})
            if (step + 1) % recipe.save_every == 0 or step + 1 == total or why:
                _keep(run, learner, penalty, runaway, step + 1)
    return run.log, watch.written.alarms


def _mixed(recipe: DpoRecipe) -> str:
    return {"bf16": "bf16", "fp16": "fp16"}.get(config.precision_of(recipe), "no")


def _keep(run: Run, learner: Learner, penalty: Penalty, runaway: Runaway, step: int) -> None:
    trained = {n: p.detach().cpu() for n, p in run.actor.named_parameters() if p.requires_grad}
    kept = {
        "step": step,
        "weights": trained,
        "optimizer": learner.optimizer.state_dict(),
        "scheduler": learner.scheduler.state_dict(),
        "beta": penalty.beta,
        "lengths": runaway.lengths,
        "log": run.log,
    }
    state.save(run.folder, step, kept)


def _continued(run: Run, learner: Learner, penalty: Penalty, runaway: Runaway) -> int:
    """The step to go on with, after everything is as it was then."""
    kept = state.newest(run.folder)
    if kept is None:
        return 0
    ui.note(f"continuing from checkpoint-{kept['step']}")
    own = dict(run.actor.named_parameters())
    with torch.no_grad():
        for name, value in kept["weights"].items():
            own[name].copy_(value)
    learner.optimizer.load_state_dict(kept["optimizer"])
    learner.scheduler.load_state_dict(kept["scheduler"])
    penalty.beta, runaway.lengths, run.log = kept["beta"], kept["lengths"], kept["log"]
    return int(kept["step"])


def _step(run: Run, learner: Learner, penalty: Penalty, step: int) -> Row:
    """Sample and rate answers, then learn from them."""
    recipe, objective, device = run.recipe, run.objective, learner.accelerator.device
    prompts = drawn(run, step)
    answers = rollouts.sample(
        run.actor.policy, run.tokenizer, prompts, objective.max_new_tokens, objective.temperature,
        seed=recipe.seed + step,
    )  # fmt: skip
    texts = [run.tokenizer.decode(each, skip_special_tokens=True).strip() for each in answers]
    asked = [prompt.answered(text) for prompt, text in zip(prompts, texts, strict=True)]
    found = rollouts.total(objective.rewards, [rate(asked) for rate in run.rates])
    told = [value for value in found if value is not None]
    rollouts.no_signal(found)
    mean = sum(told) / len(told)
    # an answer that nobody could rate neither gains nor loses
    scores = torch.tensor([mean if v is None else v for v in found], device=device)
    tokens = batch([each.ids for each in prompts], answers, run.tokenizer.pad_token_id, device)
    learner.actor.eval()  # no dropout: the ratio begins at 1
    size, heat = recipe.batch_size, objective.temperature
    old, values, entropies = looked_at(run.actor, tokens, heat, size)
    with reference(run.actor, run.frozen) as start:
        theirs, _, _ = looked_at(start, tokens, heat, size)
    rewards = token_rewards(scores, old, theirs, tokens.mask, penalty.beta)
    advantages, returns = gae(rewards, values, tokens.mask, objective.discount, objective.trace)
    if objective.whiten:
        advantages = whiten(advantages, tokens.mask)
    kl = ((old - theirs) * tokens.mask).sum(1)
    seen = Sampled(step, tokens, old, values, advantages, returns)
    facts = _learn(run, learner, seen)
    penalty.update(float(kl.mean()), len(prompts))
    return {
        "step": step + 1,
        **facts,
        "reward": mean,
        "reward_std": float(torch.tensor(told).std(correction=0)),
        "kl": float(kl.sum() / tokens.mask.sum()),
        "kl_answer": float(kl.mean()),
        "length": float(tokens.mask.sum(1).mean()),
        "entropy": float(masked_mean(entropies, tokens.mask)),
        "rewards_unmeasured": len(found) - len(told),
    }


@dataclass(frozen=True)
class Sampled:
    """The answers of a step and what is known of their tokens at sampling."""

    step: int
    tokens: Batch
    logps: torch.Tensor
    values: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


def _learn(run: Run, learner: Learner, seen: Sampled) -> Row:
    """Passes of small steps over the answers; the means of their losses and rates."""
    recipe, objective = run.recipe, run.objective
    sums: dict[str, float] = {}
    count = 0
    for number in range(objective.passes):
        order = list(range(len(seen.logps)))
        Random(f"{recipe.seed} {seen.step} {number}").shuffle(order)
        for start in range(0, len(order), recipe.batch_size):
            at = order[start : start + recipe.batch_size]
            part = seen.tokens.rows(at)
            mask = part.mask
            with learner.accelerator.autocast():
                logps, now, spread = learner.actor(part, objective.temperature)
            gain, clipped = losses.policy_loss(
                logps, seen.logps[at], seen.advantages[at], mask, objective.clip
            )
            miss = losses.value_loss(
                now, seen.values[at], seen.returns[at], mask, objective.value_clip
            )
            loss = gain + objective.value_weight * miss
            if objective.entropy_weight:
                loss = loss - objective.entropy_weight * masked_mean(spread, mask)
            parts = {"loss": loss, "policy_loss": gain, "value_loss": miss, "clipped": clipped}
            new = {name: part.item() for name, part in parts.items()}
            new |= learner.update(loss, recipe.max_grad_norm)
            count += 1
            for name, value in new.items():
                sums[name] = sums.get(name, 0.0) + value
    return {name: value / count for name, value in sums.items()}
