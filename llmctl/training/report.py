"""report.html of a training stage."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llmctl.artifact import Artifact
from llmctl.report.html import Report

CURVES = (
    ("loss", "Loss of each step", "nats per token"),
    ("rewards/accuracies", "Pairs whose better answer has the higher reward", "share"),
    ("rewards/margins", "Reward margin", "nats"),
    ("grad_norm", "Gradient norm before clipping", "norm"),
    ("learning_rate", "Learning rate", "rate"),
)


def write(
    title: str,
    artifact: Artifact,
    steps: Sequence[dict[str, Any]],
    pieces: Sequence[tuple[str, str]],
) -> None:
    """Write report.html: what came out, the curves, and the first row token by token."""
    page = Report(title)
    page.facts(artifact.summary)
    for key, heading, unit in CURVES:
        points = [(row["step"], row[key]) for row in steps if key in row]
        if points:
            page.lines(heading, {key: points}, "optimizer step", unit)
    page.tokens("The first row as the model sees it", list(pieces))
    page.heading("All figures")
    page.table(
        ["figure", "value"],
        [[name, _shown(value)] for name, value in artifact.metrics.items()],
    )
    page.write(artifact.path("report.html"))


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)
