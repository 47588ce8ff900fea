"""What PPO, GRPO and RLOO share: prompts and rewards, and what they measure before and after."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmctl import modelref
from llmctl.alignment._online import OnlineObjective
from llmctl.artifact import Artifact
from llmctl.report.html import Report
from llmctl.rewards.base import Rate
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import (
    adapters,
    card,
    compared,
    launch,
    model,
    outcome,
    report,
    rollouts,
    vocabulary,
    xray,
)
from llmctl.training.compared import Compared
from llmctl.training.rollouts import Measured, Prompt
from llmctl.training.vocabulary import Vocabulary
from llmctl.training.xray import Shown

CURVES = (
    ({"reward": "mean of a step"}, "Reward of the sampled answers", "reward"),
    ({"kl": "estimate"}, "KL to where the model began", "nats per token"),
    (
        {"length": "mean of a step", "completions/mean_length": "mean of a step"},
        "Length of the sampled answers",
        "tokens",
    ),
    ({"entropy": "mean of a step"}, "Entropy of the next token", "nats"),
    ({"beta": "beta"}, "Weight of the KL penalty", "beta"),
)
"""What the loops of PPO, GRPO and RLOO write of each step; TRL has its own name of the length."""


@dataclass(frozen=True)
class Online:
    """One run: its model, its prompts and its rewards, which are open."""

    recipe: DpoRecipe
    objective: OnlineObjective
    artifact: Artifact
    source: Path
    words: Vocabulary
    shown: Sequence[Shown]
    train: Sequence[Prompt]
    held: Sequence[Prompt]
    rates: Sequence[Rate]

    def fresh(self) -> Any:
        """The model as the run begins."""
        return adapters.policy(self.recipe, self.source, self.words, self.artifact)

    def look(self, policy: Any) -> Measured:
        """Answers to the held-out prompts, and what they are worth."""
        return rollouts.measured(
            policy, self.words.tokenizer, self.held, self.objective, self.rates, self.recipe.seed
        )

    def before(self, policy: Any) -> Measured:
        """The same before training; a run that is continued knows it."""
        known = launch.measured_once(self.artifact, "before", lambda: self.look(policy).dump())
        found = Measured(**known)
        rollouts.no_signal(found.rewards)
        return found

    def finished(self, policy: Any) -> tuple[Any, str]:
        """(the policy as it is saved, `full` or `merged`)."""
        probe = self.train[0].ids
        return adapters.finished(policy, self.words, self.recipe, self.artifact, probe)

    def write(
        self, tuned: Any, form: str, before: Measured, after: Measured, steps: list[dict[str, Any]]
    ) -> None:
        """The model with its figures, its card and report.html."""
        texts, judged = [], None
        if not rollouts.warn_unmeasured(self.held):
            distance = outcome.kl(tuned, self.fresh(), self.held, after.answers)
            outcome.compare(self.artifact, before, after, distance)
            texts = outcome.texts(self.held, before, after)
            judged = self.judged(before, after)
        stored = model.saved_dtype(self.source, self.recipe.save_dtype)
        model.save(tuned, self.words.tokenizer, self.artifact, stored, self.recipe.model, form)
        card.write(self.recipe, self.artifact)
        title = f"{self.objective.kind}: {self.recipe.model}"

        def draw(page: Report) -> None:
            report.curves(page, steps, CURVES)
            if judged is not None:
                judged.draw(page)

        report.write(title, self.artifact, steps, self.shown, texts, self.recipe, draw)

    def judged(self, before: Measured, after: Measured) -> Compared | None:
        """What a judge says of the answers, where the recipe asks for one."""
        answers = self.recipe.answers
        if answers.judge is None:
            return None
        asked = compared.contests(self.held, after.texts, before.texts)[: answers.rows]
        return compared.by_judge(self.artifact, answers.judge, asked)


@contextmanager
def opened(recipe: DpoRecipe, objective: OnlineObjective, artifact: Artifact) -> Iterator[Online]:
    """Read the prompts and start the rewards."""
    source = modelref.hf_folder(recipe.model)
    vocabulary.check_identity(recipe, source, artifact)
    words = vocabulary.of(recipe, source)
    train, held = rollouts.read(recipe, artifact, words.tokenizer)
    rollouts.need_prompts(recipe, train)
    shown = xray.show_prompts(words.tokenizer, [(each.id, each.ids) for each in train])
    with rollouts.rating(objective.rewards, artifact.scratch) as rates:
        yield Online(recipe, objective, artifact, source, words, shown, train, held, rates)
