"""How far a model's own answers went: KL, length and, where a judge is asked, who writes better."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.evaluation import judging, length_control
from llmctl.judges.base import Contest, Judge
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import measure, outcome, rollouts
from llmctl.training.rollouts import Prompt
from llmctl.training.sources import Rows

CONFIDENCE = 0.95


class Drift:
    """Answers to some held-out prompts before and after; nothing where the recipe asks for none."""

    def __init__(self, recipe: DpoRecipe, artifact: Artifact, tokenizer: Any, rows: Rows) -> None:
        self.recipe, self.artifact, self.tokenizer = recipe, artifact, tokenizer
        self.prompts: list[Prompt] = []
        if recipe.answers.rows:
            every = {tuple(each.ids): each for each in rollouts.encoded(rows, tokenizer)}
            self.prompts = list(every.values())[: recipe.answers.rows]
        self.first: list[list[int]] = []

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
            won(self.artifact, self.recipe.answers.judge, contests(self.prompts, *texts))


def contests(
    prompts: Sequence[Prompt], after: Sequence[str], before: Sequence[str]
) -> list[Contest]:
    """Each answer after training against the one before."""
    return [
        prompt.answered(new).against(old)
        for prompt, new, old in zip(prompts, after, before, strict=True)
    ]


def won(artifact: Artifact, judge: Judge, asked: Sequence[Contest]) -> None:
    """The share of contests that the model wins, a tie counting a half; and at equal length."""
    with judge.open(artifact.scratch / "judge.sqlite") as live:
        said = list(live.compare(asked))
    told = [
        (each.points, float(len(contest.first.split()) - len(contest.second.split())))
        for contest, each in zip(asked, said, strict=True)
        if each.points is not None
    ]
    artifact.metrics["win_rate_unmeasured"] = len(said) - len(told)
    if len(told) < 2:
        ui.warn("the judge compared fewer than two answers: the win rate was not measured")
        return
    points, longer = [each for each, _ in told], [by for _, by in told]
    outcome.noted(artifact, {"win_rate": measure.mean(points)})
    same = judging.of_preferences(asked, said).get("position_consistency")
    if same is not None:
        artifact.metrics["position_consistency"] = same
    controlled = length_control.controlled(points, longer, CONFIDENCE)
    if controlled is not None:
        rate, low, high = controlled
        artifact.metrics |= {
            "length_controlled_win_rate": rate,
            "length_controlled_low": low,
            "length_controlled_high": high,
        }
        line = f"{rate:.3f} (95 % {low:.2f} to {high:.2f})"
        artifact.summary.append(("win rate at equal length", line))
