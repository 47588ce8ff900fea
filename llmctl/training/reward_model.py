"""Pairs -> a reward model with its accuracy and calibration on held-out pairs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig, TaskType
from transformers import AutoModelForSequenceClassification, set_seed
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer, suppress_seqcls_warning

from llmctl import modelref, pretrained, ui
from llmctl.alignment.reward import RewardObjective
from llmctl.artifact import Artifact
from llmctl.errors import LlmctlError
from llmctl.report.html import Report
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import (
    calibration,
    card,
    config,
    launch,
    loop,
    measure,
    model,
    outcome,
    pair_checks,
    preference_rows,
    report,
    rounding,
    swapped,
    vocabulary,
    xray,
)
from llmctl.training.preference import PairTokens
from llmctl.training.preference_rows import Prepared
from llmctl.training.vocabulary import Vocabulary

HEAD = "score"
"""The layer that transformers puts on a model for its one number."""


def align(recipe: DpoRecipe, objective: RewardObjective, artifact: Artifact) -> None:
    """Train the reward model; the artifact has model/, metrics.jsonl and report.html."""
    source = modelref.hf_folder(recipe.model)
    vocabulary.check_identity(recipe, source, artifact)
    words = vocabulary.of(recipe, source)
    found = preference_rows.read(recipe, artifact, words.tokenizer)
    swapped.check(recipe, artifact, found)
    shown = xray.show_answers(words.tokenizer, found.train, recipe.max_length)

    def fresh() -> Any:
        return load(recipe, source, words)

    policy = fresh()
    before = launch.measured_once(artifact, "before", lambda: margins(policy, found.held))
    trainer, steps = loop.run(
        recipe,
        artifact,
        policy,
        load=fresh,
        build=lambda each, base: build(each, objective, artifact.scratch, base, words, found),
    )
    tuned = loop.whole(trainer, fresh)
    if tuned is None:  # of several processes, one writes the artifact
        return
    tuned, form = finished(tuned, recipe, artifact, found.train[0])
    stored = model.saved_dtype(source, recipe.save_dtype)
    tuned = rounding.rounded(tuned, stored, recipe.seed)
    after = margins(tuned, found.held)
    model.save(tuned, words.tokenizer, artifact, stored, recipe.model, form)
    assert artifact.model is not None
    artifact.model["task"] = "reward"
    compare(artifact, before, after)
    card.write(recipe, artifact)
    report.write(
        f"reward model: {recipe.model}", artifact, steps, shown, recipe=recipe,
        draw=lambda page: draw(page, after),
    )  # fmt: skip


def load(recipe: DpoRecipe, source: Path, words: Vocabulary) -> Any:
    """The model in fp32 with a new head that gives one number; the head's start is seeded."""
    set_seed(recipe.seed)
    with suppress_seqcls_warning(), warnings.catch_warnings(), pretrained.told(source):
        warnings.simplefilter("ignore")
        found: Any = AutoModelForSequenceClassification.from_pretrained(
            source, num_labels=1, dtype=torch.float32, use_safetensors=True,
        )  # fmt: skip
    found.config.pad_token_id = words.tokenizer.pad_token_id  # decides which token is the last
    found.config.use_cache = not recipe.gradient_checkpointing
    return found.cuda() if torch.cuda.is_available() else found


def columns(found: Prepared, objective: RewardObjective, limit: int) -> list[dict[str, Any]]:
    """TRL's columns; the margin is the difference of the row's scores where it is asked for."""
    rows = []
    for pair in found.train:
        row: dict[str, Any] = {
            "chosen_ids": (pair.prompt + pair.chosen)[:limit],
            "rejected_ids": (pair.prompt + pair.rejected)[:limit],
        }
        if objective.margin == "scores":
            row["margin"] = pair_checks.score_margin(found.rows[pair.id], found.places[pair.id])
        rows.append(row)
    return rows


def settings(recipe: DpoRecipe, objective: RewardObjective, folder: Path) -> RewardConfig:
    """The trainer's settings."""
    return config.made(
        RewardConfig,
        **config.arguments(recipe, folder),
        center_rewards_coefficient=objective.center or None,
    )


def adapter(recipe: DpoRecipe) -> LoraConfig | None:
    """As in every stage, with the head trained whole."""
    if recipe.method == "full":
        return None
    found = config.lora_config(recipe.lora, [HEAD])
    found.task_type = TaskType.SEQ_CLS
    found.ensure_weight_tying = False  # there is no output layer here
    return found


def build(
    recipe: DpoRecipe,
    objective: RewardObjective,
    scratch: Path,
    policy: Any,
    words: Vocabulary,
    found: Prepared,
) -> Any:
    """TRL's trainer with our tokens."""
    return RewardTrainer(
        model=policy,
        args=settings(recipe, objective, scratch / "checkpoints"),
        train_dataset=Dataset.from_list(columns(found, objective, recipe.max_length)),
        processing_class=words.tokenizer,
        peft_config=adapter(recipe),
    )


def finished(
    tuned: Any, recipe: DpoRecipe, artifact: Artifact, pair: PairTokens
) -> tuple[Any, str]:
    """(the model with its adapter added to the weights, its form)."""
    if recipe.method == "full":
        return tuned, "full"
    before = rewards(tuned, [pair.prompt + pair.chosen])[0]
    whole: Any = tuned.merge_and_unload()
    gap = abs(rewards(whole, [pair.prompt + pair.chosen])[0] - before)
    if gap > model.TOLERANCE * max(abs(before), 1.0):
        raise LlmctlError(f"the merged model's reward differs from the adapter's by {gap:.3g}")
    artifact.metrics["merge_reward_error"] = gap
    return whole, "merged"


@torch.no_grad()
def rewards(judge: Any, rows: Sequence[list[int]]) -> list[float]:
    """The number of each conversation, in order."""
    judge.eval()
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    found = [0.0] * len(rows)
    pad = judge.config.pad_token_id
    while order:
        longest = len(rows[order[-1]])
        batch = [order.pop() for _ in range(min(len(order), max(1, 2048 // longest)))]
        ids = torch.full((len(batch), longest), pad)
        seen = torch.zeros(len(batch), longest, dtype=torch.long)
        for row, index in enumerate(batch):
            ids[row, : len(rows[index])] = torch.tensor(rows[index])
            seen[row, : len(rows[index])] = 1
        out = judge(input_ids=ids.to(judge.device), attention_mask=seen.to(judge.device))
        for row, index in enumerate(batch):
            found[index] = float(out.logits[row, 0])
    return found


def margins(judge: Any, pairs: Sequence[PairTokens]) -> list[float]:
    """Better minus worse of each pair."""
    both = [pair.prompt + side for pair in pairs for side in (pair.chosen, pair.rejected)]
    found = rewards(judge, both)
    return [found[i] - found[i + 1] for i in range(0, len(found), 2)]


def compare(artifact: Artifact, before: Sequence[float], after: Sequence[float]) -> None:
    """Accuracy, margin, loss and calibration on the held-out pairs."""
    if len(after) < 2:
        ui.warn("fewer than two held-out pairs: the reward model was not measured")
        artifact.summary.append(("accuracy", "not measured"))
        return
    right = [[float(margin > 0) for margin in each] for each in (before, after)]
    losses = [-_log_sigmoid(margin) for margin in after]
    change = measure.mean([b - a for a, b in zip(*right, strict=True)])
    outcome.noted(
        artifact,
        {
            "accuracy_before": measure.mean(right[0]),
            "accuracy_after": measure.mean(right[1]),
            "accuracy_diff": change,
            "margin": measure.mean(after),
            "eval_loss": measure.mean(losses),
        },
    )
    artifact.metrics["calibration_error"] = calibration.error(after)
    artifact.metrics["eval_rows"] = len(after)
    artifact.summary.append(("calibration error", f"{calibration.error(after):.3f}"))
    helped = change.value > 2 * change.error
    line = f"the better answer is told more often by {change}"
    artifact.summary.append(("it helped" if helped else "it did not help", line))
    accuracy = measure.mean(right[1])
    if accuracy.value - 2 * accuracy.error <= 0.5:
        ui.warn(f"the reward model prefers the better answers no more than chance does: {accuracy}")


def _log_sigmoid(value: float) -> float:
    return float(torch.nn.functional.logsigmoid(torch.tensor(value, dtype=torch.double)))


def draw(page: Report, after: Sequence[float]) -> None:
    """The calibration plot: on the diagonal, the model is as often right as it says."""
    bins = calibration.reliability(after) if after else []
    if bins:
        page.lines(
            "How often it is right, against how sure it is",
            {
                "reward model": [(each.confidence, each.right) for each in bins],
                "as it should be": [(0.5, 0.5), (1.0, 1.0)],
            },
            "probability that it gives the answer it prefers",
            "share of pairs",
        )
