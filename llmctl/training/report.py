"""report.html of a training stage."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.artifact import Artifact, Input
from llmctl.report.html import Report
from llmctl.schema.base import Recipe, leaves
from llmctl.schema.sft import SftRecipe

if TYPE_CHECKING:
    from llmctl.training.xray import Shown

Curve = tuple[dict[str, str], str, str]
"""(key of a step -> name of its line), heading, unit."""
LOSS = {"loss": "training", "eval_loss": "held out"}, "Loss of each step"
CURVES: tuple[Curve, ...] = (
    (
        {"rewards/accuracies": "share"},
        "Pairs whose better answer has the higher reward",
        "share",
    ),
    ({"rewards/margins": "margin"}, "Reward margin", "nats"),
    ({"grad_norm": "norm"}, "Gradient norm before clipping", "norm"),
    ({"learning_rate": "rate"}, "Learning rate", "rate"),
)


def write(
    title: str,
    artifact: Artifact,
    steps: Sequence[dict[str, Any]],
    first: Sequence[Shown],
    examples: Sequence[tuple[str, str]] = (),
    recipe: Recipe | None = None,
    draw: Callable[[Report], None] | None = None,
) -> None:
    """Write report.html: what came out, the curves, the first rows token by token, the recipe.

    `examples` are (heading, text): what the model wrote before and after, pairs, or texts with a
    label. `draw` adds plots of its own after the curves.
    """
    page = Report(title)
    page.facts(artifact.summary)
    causal = isinstance(recipe, SftRecipe) and recipe.task.kind == "causal"
    unit = "nats per token" if causal else "loss"
    curves(page, steps, [(*LOSS, unit), *CURVES])
    if draw is not None:
        draw(page)
    if first:
        rows = [(each.title, each.texts) for each in first]
        page.token_rows("The first rows as the model sees them", rows)
    if examples:
        page.examples("Examples", list(examples))
    page.heading("All figures")
    page.table(
        ["figure", "value"],
        [[name, _shown(value)] for name, value in artifact.metrics.items()],
    )
    if recipe is not None:
        page.heading("The recipe")
        settings = [(".".join(map(str, key)), value) for key, value in leaves(recipe.dump())]
        page.table(["key", "value"], [[key, str(value)] for key, value in settings])
    if artifact.inputs:
        page.heading("Where it comes from")
        origins = [_origin(each) for each in artifact.inputs.values()]
        page.table(["input", "from", "sha256", "made by"], origins)
    page.write(artifact.path("report.html"))


def curves(page: Report, steps: Sequence[dict[str, Any]], wanted: Sequence[Curve]) -> None:
    """Line plots over the steps, of what they have; keys with one name are one line."""
    for keys, heading, unit in wanted:
        lines: dict[str, list[tuple[float, float]]] = {}
        for key, name in keys.items():
            if points := [(row["step"], row[key]) for row in steps if key in row]:
                lines.setdefault(name, []).extend(points)
        if lines:
            page.lines(heading, lines, "step", unit)


def _origin(each: Input) -> list[str]:
    maker = f"llmctl {each.manifest['stage']}" if each.manifest else ""
    return [each.key, each.ref, each.digest[:12], maker]


def _shown(value: Any) -> str:
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def compare_ranks(
    artifact: Artifact, before: Sequence[float], after: Sequence[float], seed: int
) -> None:
    """nDCG@10 and MRR from the rank of each query's one right text, and their paired change."""
    first, last = ([discount(rank) for rank in each] for each in (before, after))
    compare(artifact, "ndcg@10", first, last, seed)
    compare(artifact, "mrr", [1 / rank for rank in before], [1 / rank for rank in after], seed)


def discount(rank: float) -> float:
    """nDCG@10 of a query with one right text (Jarvelin and Kekalainen 2002)."""
    return 1 / math.log2(rank + 1) if rank <= 10 else 0.0


def compare(
    artifact: Artifact, name: str, before: Sequence[float], after: Sequence[float], seed: int
) -> None:
    """A measure of each held-out row before and after; warns when it did not rise.

    The interval of the change is a paired bootstrap's at 95 %.
    """
    from llmctl.evaluation import statistics

    if len(after) < 2:
        ui.warn("fewer than two held-out rows: the effect of the training was not measured")
        artifact.summary.append((f"held-out {name}", "not measured"))
        return
    first, last = statistics.estimate(before), statistics.estimate(after)
    change = statistics.difference(before, after)
    each = [b - a for a, b in zip(before, after, strict=True)]
    low, high = statistics.bootstrap(each, 0.95, seed=seed)
    artifact.metrics |= {
        f"{name}_before": first.value,
        f"{name}_before_se": first.se,
        f"{name}_after": last.value,
        f"{name}_after_se": last.se,
        f"{name}_diff": change.value,
        f"{name}_diff_low": low,
        f"{name}_diff_high": high,
    }
    artifact.summary += [
        (f"held-out {name} before", str(first)),
        (f"held-out {name} after", str(last)),
        ("paired difference", f"{change}, 95 % between {low:+.4f} and {high:+.4f}"),
    ]
    if low <= 0:
        ui.warn(f"held-out {name} did not rise beyond its error: {low:+.4f} to {high:+.4f}")
