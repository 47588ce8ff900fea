"""Whether `chosen` and `rejected` may have been swapped: somebody else reads the pairs too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.evaluation import statistics
from llmctl.judges.base import Contest, Judge, Preference, beside
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import launch, pair_checks
from llmctl.training.preference import Scores, preferred_per_token
from llmctl.training.preference_rows import Prepared

CONFIDENCE = 0.95


def check(recipe: DpoRecipe, artifact: Artifact, found: Prepared) -> None:
    """Let the recipe's judge read some pairs first, where it has one; one process asks it."""
    judge, most = recipe.checks.judge, recipe.checks.judge_rows
    if judge is None:
        return

    def ask() -> None:
        cache = artifact.scratch / "judge.sqlite"
        said = check_by_judge(judge, most, found, recipe.seed, cache)
        artifact.summary.append(("labels", said))

    launch.by_the_first(artifact, "judged", ask)


def check_by_judge(judge: Judge, most: int, found: Prepared, seed: int, cache: Path) -> str:
    """Refuse pairs when the judge prefers most of the worse answers; returns what it said."""
    pairs = found.train
    if len(pairs) > most:
        pairs = [pairs[i] for i in sorted(Random(seed).sample(range(len(pairs)), most))]
    contests = [contest(found.rows[pair.id], pair.id) for pair in pairs]
    with judge.open(cache) as live, ui.progress("judging the pairs", len(pairs)) as advance:
        verdicts = []
        for verdict in live.compare(contests):
            verdicts.append(verdict)
            advance(1)
    return judged([found.places[pair.id] for pair in pairs], verdicts)


def contest(row: dict[str, Any], identity: str) -> Contest:
    """The better answer of a pair against the worse."""
    first, second = (row[name][0]["content"] for name in ("chosen", "rejected"))
    return Contest(identity, row["prompt"], first, second, **beside(row))


def judged(places: Sequence[str], verdicts: Sequence[Preference]) -> str:
    """Refuse when significantly more than half of the decided verdicts go against the labels."""
    said = [v for v in verdicts if v.winner in ("first", "second")]
    if not said:
        reasons = Counter(v.reason or str(v.winner) for v in verdicts)
        why = "; ".join(f"{n}: {reason}" for reason, n in reasons.most_common(3))
        ui.warn(f"checks.judge: no pair could be decided, so the labels were not checked ({why})")
        return "no pair could be decided"
    against = [
        ((verdict.margin and -verdict.margin) or 0.0, place)
        for place, verdict in zip(places, verdicts, strict=True)
        if verdict.winner == "second"
    ]
    low, _ = statistics.wilson(len(against), len(said), CONFIDENCE)
    line = f"the judge prefers the rejected answer in {len(against)} of {len(said)} pairs"
    if low > pair_checks.MOST:
        at = pair_checks.worst(against, len(against))
        raise InputError(
            pair_checks.named(at, f"{line}: chosen and rejected are swapped (most first)")
        )
    return line


def warn_by_likelihood(found: Prepared, before: Scores) -> str:
    """A warning when the model itself finds most of the worse answers likelier, else empty."""
    if not before:
        return ""
    right = preferred_per_token(before)
    _, high = statistics.wilson(sum(right), len(right), CONFIDENCE)
    if high >= pair_checks.MOST:
        return ""
    gaps = [
        (r / max(rn, 1) - c / max(cn, 1), place)
        for (c, cn, r, rn), place in zip(before, found.held_places, strict=True)
    ]
    wrong = len(right) - int(sum(right))
    return pair_checks.named(
        pair_checks.worst(gaps),
        f"the model finds the rejected answer likelier in {wrong} of {len(right)} held-out pairs; "
        f"if that is not what you teach it, chosen and rejected are swapped",
    )
