"""The page to judge a deduplication by: counts, similarities, drops beside their twins."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from llmctl.report.html import Report

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.schema.dedup import DedupRecipe
    from llmctl.stages.dedup import Verdicts

SHOWN = 2000
"""Characters of a text in the report."""
LARGEST = 10


def write(recipe: DedupRecipe, artifact: Artifact, verdicts: Verdicts, fixed: int) -> None:
    """Write report.html."""
    report = Report("dedup")
    metrics = artifact.metrics
    report.facts(
        [
            ("rows", str(metrics["rows"])),
            ("kept", str(metrics["kept"])),
            *((f"dropped: {reason}", str(n)) for reason, n in metrics["dropped_by_reason"].items()),
            ("held-out rows compared", str(fixed)),
            ("clusters of twins", str(metrics["clusters"])),
        ]
    )
    similarities(recipe, report, verdicts)
    clusters(report, verdicts)
    drops(recipe, report, verdicts)
    report.write(artifact.path("report.html"))


def similarities(recipe: DedupRecipe, report: Report, verdicts: Verdicts) -> None:
    """How alike the compared pairs are, and what other thresholds would drop."""
    for method in recipe.methods:
        found = verdicts.found[method.kind]
        if len(found.measured):
            report.heading("Similarity of the pairs that were compared")
            report.text(f"A row was dropped at {method.rule}. Pairs far below are not measured.")
            report.histogram(
                "Jaccard", {method.kind: found.measured.tolist()}, "Jaccard similarity"
            )
        if found.sweep:
            counts = [[f"{threshold:g}", str(n)] for threshold, n in found.sweep.items()]
            report.heading("Other thresholds")
            report.table(["threshold", f"rows that {method.kind} drops"], counts)


def clusters(report: Report, verdicts: Verdicts) -> None:
    """The largest groups of twins, each by the beginning of its first row."""
    sizes = np.bincount(verdicts.cluster)
    largest = [int(i) for i in np.argsort(-sizes, kind="stable")[:LARGEST] if sizes[i] > 1]
    if largest:
        report.heading("Largest clusters")
        shown = [[str(sizes[i]), verdicts.entries[i].id, _line(verdicts, i)[:120]] for i in largest]
        report.table(["rows", "first row", "text"], shown)


def drops(recipe: DedupRecipe, report: Report, verdicts: Verdicts) -> None:
    """Dropped rows, the least similar first, with the words that the twin does not have."""
    gone = sorted(np.flatnonzero(verdicts.twin >= 0).tolist(), key=lambda i: verdicts.score[i])
    for reason in dict.fromkeys(verdicts.reason(i) for i in gone):
        chosen = [i for i in gone if verdicts.reason(i) == reason][: recipe.examples]
        if chosen:
            report.heading(f"Dropped as {reason}: the least similar")
        for i in chosen:
            twin = int(verdicts.twin[i])
            ids = verdicts.entries[i].id, verdicts.entries[twin].id
            score = f"{verdicts.score[i]:.3f}"
            one, other = _line(verdicts, i), _line(verdicts, twin)
            report.tokens(f"dropped {ids[0]} ({score})", differing(one, other))
            report.tokens(f"kept {ids[1]}", differing(other, one))


def differing(text: str, other: str) -> list[tuple[str, str]]:
    """Pieces of `text`; words that `other` does not have are marked."""
    known = set(re.findall(r"\w+", other.casefold()))
    marked = []
    for piece in re.findall(r"\w+|\W+", text):
        new = piece[0].isalnum() and piece.casefold() not in known
        marked.append((piece, "trained" if new else "context"))
    return marked


def _line(verdicts: Verdicts, i: int) -> str:
    return verdicts.entries[i].text.replace("\0", "\n")[:SHOWN]
