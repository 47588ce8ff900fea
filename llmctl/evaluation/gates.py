"""Rules on what was measured: passed, failed, or not to be told from this many items."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from llmctl.errors import InputError
from llmctl.evaluation.statistics import Difference, Estimate, items_needed
from llmctl.schema.eval import Rule

Verdict = Literal["passed", "failed", "inconclusive"]


@dataclass(frozen=True)
class Decision:
    """One rule and how it came out."""

    rule: str
    verdict: Verdict
    detail: str


@dataclass(frozen=True)
class Measured:
    """One metric of one task."""

    name: str
    model: Estimate
    lower_is_better: bool
    baseline: Estimate | None = None
    difference: Difference | None = None
    no_difference: str = "there is no baseline"
    """Why `difference` is None."""


def decide(rule: Rule, found: dict[str, Measured], confidence: float) -> Iterator[Decision]:
    """A decision for each limit of a rule; the whole interval has to keep it."""
    if rule.metric not in found:
        raise InputError(
            f"gate: no metric '{rule.metric}' was measured; there are: {', '.join(found)}"
        )
    metric = found[rule.metric]
    if rule.min is not None:
        yield _decide(f"{rule.metric} >= {rule.min:g}", metric.model, rule.min, 1, confidence)
    if rule.max is not None:
        yield _decide(f"{rule.metric} <= {rule.max:g}", metric.model, rule.max, -1, confidence)
    sign = -1 if metric.lower_is_better else 1
    limits: list[tuple[str, float]] = []
    if rule.better:
        limits.append((f"{rule.metric} better than the baseline", 0.0))
    if rule.max_drop is not None:
        limits.append(
            (f"{rule.metric} at most {rule.max_drop:g} worse than the baseline", -rule.max_drop)
        )
    for text, limit in limits:
        if metric.difference is None:
            yield Decision(text, "inconclusive", metric.no_difference)
        else:
            yield _decide(text, metric.difference, sign * limit, sign, confidence)


def _decide(text: str, found: Estimate, limit: float, sign: int, confidence: float) -> Decision:
    """`sign` 1: the interval has to lie above the limit; -1: below it."""
    low, high = sorted((sign * found.low, sign * found.high))
    verdict: Verdict = "inconclusive"
    # a difference of exactly nothing is no improvement
    strict = isinstance(found, Difference) and limit == 0
    if (low > sign * limit) if strict else (low >= sign * limit):
        verdict = "passed"
    elif (high <= sign * limit) if strict else (high < sign * limit):
        verdict = "failed"
    detail = f"{found}, {confidence:.0%} interval {found.low:.4g} to {found.high:.4g}"
    if verdict == "inconclusive":
        needed = items_needed(found.n, found.se, found.value - limit, confidence)
        detail += f"; about {needed} items would tell" if needed and needed > found.n else ""
    return Decision(text, verdict, detail)


def as_row(decision: Decision) -> dict[str, Any]:
    """The decision in results.json."""
    return {"rule": decision.rule, "verdict": decision.verdict, "detail": decision.detail}
