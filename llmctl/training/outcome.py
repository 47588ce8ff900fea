"""What an online objective changed: reward, length and distance from the start, with errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.training import measure
from llmctl.training.measure import Mean
from llmctl.training.rollouts import Measured, Prompt


def kl(policy: Any, reference: Any, held: Sequence[Prompt], answers: Sequence[list[int]]) -> Mean:
    """KL to the reference in nats a token, estimated on answers that the policy sampled.

    The mean of log p(policy) - log p(reference) over samples of the policy (Schulman 2020, "k1");
    answers are the independent units.
    """
    rows = [
        (prompt.ids + answer, [False] * len(prompt.ids) + [True] * len(answer))
        for prompt, answer in zip(held, answers, strict=True)
    ]
    ours = measure.log_probabilities(policy, rows, "KL of the policy")
    theirs = measure.log_probabilities(reference, rows, "KL of the reference")
    gaps = [a[0] - b[0] for a, b in zip(ours, theirs, strict=True)]
    return measure.ratio(gaps, [count for _, count in ours])


def compare(artifact: Artifact, before: Measured, after: Measured, distance: Mean) -> None:
    """Write what came out; one line says whether it helped."""
    both = [
        (a, b)
        for a, b in zip(before.rewards, after.rewards, strict=True)
        if a is not None and b is not None
    ]
    artifact.metrics["rewards_unmeasured"] = len(after.rewards) - len(both)
    lengths = [[float(len(each)) for each in side.answers] for side in (before, after)]
    found = {
        "length_before": measure.mean(lengths[0]),
        "length_after": measure.mean(lengths[1]),
        "kl": distance,
    }
    if len(both) >= 2:
        found = {
            "reward_before": measure.mean([a for a, _ in both]),
            "reward_after": measure.mean([b for _, b in both]),
            "reward_diff": measure.mean([b - a for a, b in both]),
        } | found
    noted(artifact, found)
    artifact.metrics["eval_rows"] = len(after.rewards)
    change = found.get("reward_diff")
    if change is None:
        ui.warn("fewer than two rewards of held-out prompts: the effect was not measured")
    elif change.value > 2 * change.error:
        artifact.summary.append(("it helped", f"the reward rose by {change}"))
    else:
        artifact.summary.append(("it did not help", f"the reward changed by {change}"))
        ui.warn(f"the reward on held-out prompts did not rise beyond its error: {change}")


def noted(artifact: Artifact, found: dict[str, Mean]) -> None:
    """Means with their errors into the manifest's metrics and the summary."""
    for name, value in found.items():
        artifact.metrics[name] = value.value
        artifact.metrics[f"{name}_se"] = value.error
    artifact.summary += [(name.replace("_", " "), str(value)) for name, value in found.items()]


def texts(held: Sequence[Prompt], before: Measured, after: Measured) -> list[tuple[str, str]]:
    """(prompt, answers before and after) of some held-out prompts, for the report."""
    return [
        (prompt.messages[-1]["content"], f"BEFORE: {one}\n\nAFTER: {other}")
        for prompt, one, other in zip(held[:8], before.texts, after.texts, strict=False)
    ]
