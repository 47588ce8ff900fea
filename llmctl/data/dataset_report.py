"""The page of build-dataset: what was made and left, and what the rows that stay are like."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llmctl.data import judging
from llmctl.exploration import page
from llmctl.exploration.profile import profile
from llmctl.exploration.views import view_of
from llmctl.report.html import Report

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.data.lengths import Lengths
    from llmctl.records import Dropped
    from llmctl.schema.build_dataset import BuildDatasetRecipe

DROPS = 200
"""Dropped rows that are listed."""


def write(
    recipe: BuildDatasetRecipe,
    artifact: Artifact,
    made: int,
    parts: Mapping[str, Sequence[Mapping[str, Any]]],
    dropped: Sequence[Dropped],
    judged: Sequence[judging.Judged] = (),
    compared: Lengths | None = None,
    figures: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write report.html; `parts` are the rows of each split."""
    report = Report(f"build-dataset: {recipe.out}")
    kept = sum(map(len, parts.values()))
    begin = len(dropped) - (made - kept)  # before it: what never became a row
    before = Counter(each.reason for each in dropped[:begin]).most_common()
    facts: list[tuple[str, Any]] = [("source", recipe.source_name())]
    facts += [("not made", ", ".join(f"{n} {reason}" for reason, n in before))] if before else []
    report.facts([*facts, ("made", made), ("kept", kept)])
    reasons = Counter(each.reason for each in dropped[begin:]).most_common()
    left = [(f"left: {reason}", float(count)) for reason, count in reasons]
    report.ranked("From made to kept", [("made", made), *left, ("kept", kept)], "rows")
    for kind, found in (figures or {}).items():
        report.heading(f"Figures of {kind}")
        report.facts([(name.replace("_", " "), f"{value:.3g}") for name, value in found.items()])
    if compared:
        report.heading("Length of better and worse answers")
        report.facts(compared.lines())
        if compared.systematic:
            report.text(f"Warning: {compared.warning()}.")
    report.heading("The rows that stay")
    rows = (view_of(row, split) for split, each in parts.items() for row in each)
    page.write_sections(report, profile(rows, tokenizer=recipe.tokenizer, seed=recipe.seed))
    judging.write_sections(report, judged)
    if dropped:
        report.heading("Dropped")
        report.table(
            ["row", "reason", "detail"],
            [[each.id, each.reason, each.detail] for each in dropped[:DROPS]],
        )
    report.write(artifact.path("report.html"))
