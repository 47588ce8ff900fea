"""GRPO and RLOO through TRL: groups of answers, rated by the recipe's rewards."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_config import RLOOConfig
from trl.trainer.rloo_trainer import RLOOTrainer

from llmctl import modelref, ui
from llmctl.alignment._groups import GroupObjective
from llmctl.alignment.grpo import GrpoObjective
from llmctl.alignment.rloo import RlooObjective
from llmctl.artifact import Artifact
from llmctl.rewards.base import Rate
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import config, loop, online, rollouts, vocabulary
from llmctl.training.rollouts import Prompt, Runaway
from llmctl.training.vocabulary import Vocabulary


def align(recipe: DpoRecipe, objective: GroupObjective, artifact: Artifact) -> None:
    """Train the recipe's model on its own answers; write it with its figures."""
    with online.opened(recipe, objective, artifact) as it:
        policy = it.fresh()
        before = it.before(policy)
        trainer, steps = loop.run(
            recipe,
            artifact,
            policy,
            load=it.fresh,
            build=lambda each, base: build(
                each, objective, artifact.scratch, base, it.words, it.train, it.rates
            ),
        )
        tuned = loop.whole(trainer, it.fresh)
        if tuned is None:  # of several processes, one writes the artifact
            return
        tuned, form = it.finished(tuned)
        after = it.look(tuned)
    it.write(tuned, form, before, after, steps)


SKIPPED = ("max_length",)
"""Settings that a trainer that samples has no use for."""


def settings(recipe: DpoRecipe, objective: GroupObjective, folder: Path) -> Any:
    """The trainer's settings."""
    shared = {k: v for k, v in config.arguments(recipe, folder).items() if k not in SKIPPED}
    shared |= {
        "num_generations": objective.generations,
        "num_iterations": objective.iterations,
        "max_completion_length": objective.max_new_tokens,
        "temperature": objective.temperature,
        "epsilon": objective.clip,
        "beta": recipe.beta,
        "reward_weights": [reward.weight for reward in objective.rewards],
        "use_vllm": objective.vllm,
    }
    if isinstance(objective, RlooObjective):
        return config.made(RLOOConfig, **shared, normalize_advantages=objective.normalise)
    assert isinstance(objective, GrpoObjective)
    return config.made(
        GRPOConfig,
        **shared,
        loss_type=objective.variant,
        epsilon_high=objective.clip_high,
        importance_sampling_level=objective.level,
        scale_rewards=objective.scale_rewards,
    )


def function(rate: Rate, prompts: dict[str, Prompt], name: str) -> Callable[..., Any]:
    """A reward as TRL calls it."""

    def found(completions: Sequence[Any], prompt_id: Sequence[str], **_: Any) -> list[float | None]:
        texts = [each[0]["content"].strip() for each in completions]
        return rate(
            [prompts[key].answered(text) for key, text in zip(prompt_id, texts, strict=True)]
        )

    found.__name__ = name
    return found


class Stop(TrainerCallback):
    """Ends the run when the KL or the length runs away."""

    def __init__(self, objective: GroupObjective) -> None:
        self.runaway = Runaway(objective.stop_kl, objective.stop_length)

    def on_train_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **_: Any,
    ) -> None:
        """Know the first steps of a run that is continued."""
        rows = [row for row in state.log_history if "completions/mean_length" in row]
        self.runaway.lengths = [row["completions/mean_length"] for row in rows]

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **_: Any,
    ) -> None:
        """Look at the step."""
        if not logs or "completions/mean_length" not in logs:
            return
        why = self.runaway.check(logs.get("kl"), logs["completions/mean_length"])
        if why and not control.should_training_stop:
            ui.warn(f"step {state.global_step}: {why}; the run ends here")
            control.should_training_stop = True
            control.should_save = True


def build(
    recipe: DpoRecipe,
    objective: GroupObjective,
    scratch: Path,
    policy: Any,
    words: Vocabulary,
    train: Sequence[Prompt],
    rates: Sequence[Rate],
) -> Any:
    """TRL's trainer with our prompts and the recipe's rewards."""
    prompts = {prompt.id: prompt for prompt in train}
    kind: Any = RLOOTrainer if isinstance(objective, RlooObjective) else GRPOTrainer
    rows = [{"prompt": prompt.messages, "prompt_id": prompt.id} for prompt in train]
    trainer = kind(
        model=policy,
        reward_funcs=[
            function(rate, prompts, name)
            for rate, name in zip(rates, rollouts.names(objective.rewards), strict=True)
        ],
        args=settings(recipe, objective, scratch / "checkpoints"),
        train_dataset=Dataset.from_list(json.loads(json.dumps(rows))),
        processing_class=words.tokenizer,
        peft_config=config.adapter_of(
            recipe, modelref.hf_folder(recipe.model), vocabulary.layers(policy, words)
        ),
    )
    trainer.add_callback(Stop(objective))
    return trainer
