"""Who writes better: a judge compares a model's answers after training with those before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.evaluation import judging, length_control, statistics
from llmctl.judges.base import Contest, Judge, Preference, Winner
from llmctl.report.html import Report
from llmctl.training import measure, outcome
from llmctl.training.rollouts import Prompt

CONFIDENCE = 0.95
SIDES: dict[Winner, str] = {"first": "after", "second": "before", "tie": "tie"}
"""A winner by the time at which its answer was written."""
FOLLOWED = "each order gave another verdict"
SHOWN = 8
"""Answers in the report; all are in compared.jsonl."""


def contests(
    prompts: Sequence[Prompt], after: Sequence[str], before: Sequence[str]
) -> list[Contest]:
    """Each answer after training against the one before."""
    return [
        prompt.answered(new).against(old)
        for prompt, new, old in zip(prompts, after, before, strict=True)
    ]


@dataclass(frozen=True)
class Compared:
    """What the judge said of each contest."""

    asked: Sequence[Contest]
    said: Sequence[Preference]

    def rows(self) -> list[dict[str, Any]]:
        """The rows of compared.jsonl; `winner` is null where the judge gave no verdict."""
        return [
            {
                "id": contest.id,
                "prompt": contest.messages,
                "before": contest.second,
                "after": contest.first,
                "winner": None if each.winner is None else SIDES[each.winner],
                "consistent": each.consistent,
                "reason": FOLLOWED if each.consistent is False else each.reason,
            }
            for contest, each in zip(self.asked, self.said, strict=True)
        ]

    def draw(self, page: Report) -> None:
        """The first answers with their verdicts."""
        texts = []
        for row in self.rows()[:SHOWN]:
            verdict = f"{row['winner'] or 'no verdict'} ({row['reason']})"
            body = f"BEFORE: {row['before']}\n\nAFTER: {row['after']}\n\nJUDGE: {verdict}"
            texts.append((str(row["prompt"][-1]["content"]), body))
        page.details("Sampled answers and what the judge said of them", texts)


def by_judge(artifact: Artifact, judge: Judge, asked: Sequence[Contest]) -> Compared:
    """Ask about every contest; what comes of it goes to the artifact."""
    with (
        judge.open(artifact.scratch / "judge.sqlite") as live,
        ui.progress("judging the answers", len(asked)) as advance,
    ):
        said = []
        for each in live.compare(asked):
            said.append(each)
            advance(1)
    found = Compared(asked, said)
    noted(artifact, found)
    return found


def noted(artifact: Artifact, found: Compared) -> None:
    """Each verdict, and the share of contests that the model wins; a tie counts a half."""
    artifact.write_jsonl("compared.jsonl", found.rows())
    known = judging.of_preferences(found.asked, found.said)
    artifact.metrics["win_rate_unmeasured"] = known["unmeasured"]
    if "unmeasured_reasons" in known:
        artifact.metrics["win_rate_unmeasured_reasons"] = known["unmeasured_reasons"]
    points = [each.points for each in found.said if each.points is not None]
    count = Counter(each.winner for each in found.said)
    verdicts = f"{count['first']} won, {count['second']} lost, {count['tie']} ties"
    artifact.summary.append(("verdicts", f"{verdicts}, {count[None]} unmeasured"))
    if len(points) < 2:
        ui.warn("the judge compared fewer than two answers: the win rate was not measured")
        return
    outcome.noted(artifact, {"win_rate": measure.mean(points)})
    artifact.metrics |= {
        "win_rate_won": count["first"],
        "win_rate_lost": count["second"],
        "win_rate_ties": count["tie"],
    }
    if "longer_wins" in known:
        artifact.metrics["longer_wins"] = known["longer_wins"]
    trust(artifact, [each.consistent for each in found.said if each.consistent is not None])
    controlled = length_control.of_preferences(found.asked, found.said, CONFIDENCE)
    artifact.metrics |= controlled
    if controlled:
        rate, low, high = controlled.values()
        line = f"{rate:.3f} (95 % {low:.2f} to {high:.2f})"
        artifact.summary.append(("win rate at equal length", line))


def trust(artifact: Artifact, consistent: Sequence[bool]) -> None:
    """How often both orders gave one verdict; a warning when a coin would do as well."""
    if not consistent:
        return
    same, asked = sum(consistent), len(consistent)
    artifact.metrics["position_consistency"] = same / asked
    low, _ = statistics.wilson(same, asked, CONFIDENCE)
    chance = low <= 0.5
    line = f"{same} of {asked}" + (": a coin would do as well" if chance else "")
    artifact.summary.append(("same verdict in both orders", line))
    if chance:
        ui.warn(
            f"the judge said the same in both orders of {same} of {asked} pairs, which chance "
            f"would do in half of them; its other verdicts are ties, so the win rate says little"
        )
