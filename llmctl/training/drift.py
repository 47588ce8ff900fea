"""How far a model's own answers went: KL, length and, where a judge is asked, who writes better."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.report.html import Report
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import compared, measure, outcome, rollouts
from llmctl.training.compared import Compared
from llmctl.training.rollouts import Prompt
from llmctl.training.sources import Rows


class Drift:
    """Answers to some held-out prompts before and after; nothing where the recipe asks for none."""

    def __init__(self, recipe: DpoRecipe, artifact: Artifact, tokenizer: Any, rows: Rows) -> None:
        self.recipe, self.artifact, self.tokenizer = recipe, artifact, tokenizer
        self.prompts: list[Prompt] = []
        if recipe.answers.rows:
            every = {tuple(each.ids): each for each in rollouts.encoded(rows, tokenizer)}
            self.prompts = list(every.values())[: recipe.answers.rows]
        self.first: list[list[int]] = []
        self.compared: Compared | None = None

    def _sampled(self, policy: Any) -> list[list[int]]:
        most, seed = self.recipe.answers.max_tokens, self.recipe.seed
        return rollouts.sample(policy, self.tokenizer, self.prompts, most, 1.0, seed)

    def before(self, policy: Any) -> None:
        """Answer as the starting model; a run that goes on reads what it wrote then."""
        if self.prompts:
            kept = self.artifact.scratch / "answers.json"
            known = measure.remembered(kept)
            self.first = known or measure.remember(kept, self._sampled(policy))

    def after(self, tuned: Any, start: Callable[[], Any]) -> None:
        """Answer again; the figures go to the artifact. `start` loads the starting model."""
        if not self.recipe.answers.rows:
            return
        if len(self.prompts) < 2:
            ui.warn("fewer than two held-out prompts: KL and length of answers were not measured")
            return
        last = self._sampled(tuned)
        lengths = [[float(len(each)) for each in side] for side in (self.first, last)]
        found = {
            "kl": outcome.kl(tuned, start(), self.prompts, last),
            "length_before": measure.mean(lengths[0]),
            "length_after": measure.mean(lengths[1]),
            "length_diff": measure.mean([b - a for a, b in zip(*lengths, strict=True)]),
        }
        outcome.noted(self.artifact, found)
        if self.recipe.answers.judge is not None:
            texts = [
                [self.tokenizer.decode(each, skip_special_tokens=True).strip() for each in side]
                for side in (last, self.first)
            ]
            asked = compared.contests(self.prompts, *texts)
            self.compared = compared.by_judge(self.artifact, self.recipe.answers.judge, asked)

    def draw(self, page: Report) -> None:
        """What a judge said of the answers, where one was asked."""
        if self.compared is not None:
            self.compared.draw(page)
