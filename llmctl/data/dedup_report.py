"""The page to judge a deduplication by: counts, similarities, drops beside their twins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from llmctl.report.html import Pieces, Report

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.data.verdicts import Verdicts
    from llmctl.schema.dedup import DedupRecipe

SHOWN = 2000
"""Characters of a text in the report."""
LARGEST, BEGINNING = 10, 120
"""Clusters that are shown, and characters of a row of each."""
SIZES = (2, 3, 4, 10, 100, 1000, 2**62)
"""Sizes of clusters that are counted together."""


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
    contamination(recipe, report, verdicts)
    similarities(recipe, report, verdicts)
    clusters(report, verdicts)
    boilerplate(recipe, report, verdicts, fixed)
    drops(recipe, report, verdicts)
    report.write(artifact.path("report.html"))


def similarities(recipe: DedupRecipe, report: Report, verdicts: Verdicts) -> None:
    """How alike the compared pairs are, and what other thresholds would drop."""
    for method in recipe.methods:
        found = verdicts.found[method.kind]
        if len(found.measured):
            report.heading(f"{method.kind}: similarities")
            report.text(f"A row was dropped at {method.rule}. Pairs far below are not measured.")
            report.histogram(
                f"{len(found.measured)} pairs", {method.kind: found.measured.tolist()},
                method.measure,
            )  # fmt: skip
        if found.sweep:
            counts = [[f"{threshold:g}", str(n)] for threshold, n in found.sweep.items()]
            report.heading("Other thresholds")
            report.table(["threshold", f"rows that {method.kind} drops"], counts)


def contamination(recipe: DedupRecipe, report: Report, verdicts: Verdicts) -> None:
    """Each benchmark and what was found of it, with the surest and the least sure rows."""
    if recipe.decontaminate is None:
        return
    leaks = verdicts.leaks
    report.heading("Benchmark items in the data")
    names = ["benchmark", "items", "found", "rows dropped", "rows flagged"]
    keys = ["benchmark", "items", "items_found", "rows_dropped", "rows_flagged"]
    report.table(names, [[str(each[key]) for key in keys] for each in leaks.table()])
    report.text(
        "Marked words stand in both texts, at least three in a row. Flagged rows are still in the "
        "data: a result on a benchmark with flagged rows is to be doubted."
    )
    for what in (True, False):
        rows = leaks.rows(verdicts.entries, dropped=what)
        texts = _texts(verdicts, dropped=what)
        pairs: list[tuple[str, dict[str, Pieces]]] = []
        for each in sorted(rows, key=lambda row: row["score"])[: recipe.examples]:
            row, item = texts[each["id"], each["line"]], _item(verdicts, each)
            told = f"{each['score']:.3f}, {each['rule']}"
            name = f"{each['benchmark']}: {each['twin']}"
            pairs.append((told, {each["id"]: common(row, item), name: common(item, row)}))
        if pairs:
            title = "Dropped for a benchmark" if what else "Flagged for a benchmark"
            report.token_rows(f"{title}: the least sure", pairs)


def _texts(verdicts: Verdicts, *, dropped: bool) -> dict[tuple[str, str], str]:
    """Texts of the rows that a benchmark was found in, by id and line."""
    from llmctl.data.entries import short

    entries, leaks = verdicts.entries, verdicts.leaks
    rows = {int(i) for _, hits in leaks.hits for i in hits.row if leaks.dropped[i] == dropped}
    return {(entries.ids[i], short(entries.wheres[i])): _line(verdicts, i) for i in rows}


def _item(verdicts: Verdicts, row: dict[str, Any]) -> str:
    benchmark = next(b for b in verdicts.leaks.benchmarks if b.name == row["benchmark"])
    return benchmark.texts[benchmark.wheres.index(row["twin_line"])][:SHOWN]


def common(text: str, other: str, n: int = 3) -> list[tuple[str, str]]:
    """Pieces of `text`; words that stand in the same order in `other`, n in a row, are marked."""
    words = re.findall(r"\w+", other.casefold())
    known = {tuple(words[i : i + n]) for i in range(len(words) - n + 1)}
    pieces = re.findall(r"\w+|\W+", text)
    places = [i for i, piece in enumerate(pieces) if re.match(r"\w", piece)]
    mine = [pieces[i].casefold() for i in places]
    marked = set[int]()
    for i in range(len(mine) - n + 1):
        if tuple(mine[i : i + n]) in known:
            marked.update(places[i : i + n])
    return joined((p, "trained" if i in marked else "context") for i, p in enumerate(pieces))


def clusters(report: Report, verdicts: Verdicts) -> None:
    """The largest groups of twins, each by the beginning of its first row."""
    sizes = np.bincount(verdicts.cluster)
    largest = [int(i) for i in np.argsort(-sizes, kind="stable")[:LARGEST] if sizes[i] > 1]
    if largest:
        report.heading("Clusters of twins")
        counts = [int(((sizes >= low) & (sizes < high)).sum()) for low, high in pairwise(SIZES)]
        names = [f"{low} to {high - 1}" if high > low + 1 else f"{low}"
                 for low, high in pairwise(SIZES)]  # fmt: skip
        names[-1] = f"{SIZES[-2]} and more"
        report.table(
            ["rows in the cluster", "clusters"],
            [[name, str(n)] for name, n in zip(names, counts, strict=True) if n],
        )
        report.heading("Largest clusters")
        shown = [[int(sizes[i]), verdicts.entries[i].id, _beginning(verdicts, i)] for i in largest]
        report.table(["rows", "first row", "text"], shown)


def boilerplate(recipe: DedupRecipe, report: Report, verdicts: Verdicts, fixed: int) -> None:
    """The phrases that the most kept rows share."""
    from llmctl.data.boilerplate import phrases, sample
    from llmctl.data.kernels import kernel

    kept = sample(np.flatnonzero(~verdicts.gone[fixed:]) + fixed)
    found = phrases(verdicts.entries.texts, kept, kernel(recipe.kernel))
    if not found:
        return
    report.heading("Phrases that kept rows share")
    report.text(
        f"The commonest runs of eight words and more in {len(kept)} rows, evenly taken. Templates "
        "and footers that are no repeats of a row are seen here; substring cuts the long ones out."
    )
    rows = [[str(n), verdicts.entries.ids[row], text] for n, text, row in found]
    report.table(["rows", "for instance", "phrase"], rows)


def drops(recipe: DedupRecipe, report: Report, verdicts: Verdicts) -> None:
    """Dropped rows, the least similar first, with the words that the twin does not have."""
    gone = np.flatnonzero(verdicts.twin >= 0)
    gone = gone[np.argsort(verdicts.score[gone], kind="stable")]
    shown: dict[str, list[int]] = {}
    for i in gone.tolist():
        shown.setdefault(verdicts.reason(i), []).append(i)
    for reason, rows in shown.items():
        pairs: list[tuple[str, dict[str, Pieces]]] = []
        for i in rows[: recipe.examples]:
            twin = int(verdicts.twin[i])
            one, other = _line(verdicts, i), _line(verdicts, twin)
            texts: dict[str, Pieces] = {
                f"dropped {verdicts.entries[i].id}": differing(one, other),
                f"kept {verdicts.entries[twin].id}": differing(other, one),
            }
            pairs.append((f"similarity {verdicts.score[i]:.3f}", texts))
        if pairs:
            report.token_rows(f"Dropped as {reason}: the least similar", pairs)


def differing(text: str, other: str) -> list[tuple[str, str]]:
    """Pieces of `text`; words that `other` does not have are marked."""
    known = set(re.findall(r"\w+", other.casefold()))
    marked = []
    for piece in re.findall(r"\w+|\W+", text):
        new = piece[0].isalnum() and piece.casefold() not in known
        marked.append((piece, "trained" if new else "context"))
    return joined(marked)


def joined(pieces: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Neighbouring pieces of one kind as one; spaces between two marked words are marked, too."""
    found: list[tuple[str, str]] = []
    for text, kind in pieces:
        if found and found[-1][1] == kind:
            found[-1] = (found[-1][0] + text, kind)
        elif len(found) > 1 and kind == "trained" and found[-1][0].isspace():
            found[-2:] = [(found[-2][0] + found[-1][0] + text, kind)]
        else:
            found.append((text, kind))
    return found


def _beginning(verdicts: Verdicts, i: int) -> str:
    text = _line(verdicts, i)
    return text if len(text) <= BEGINNING else text[: BEGINNING - 1].rstrip() + "…"


def _line(verdicts: Verdicts, i: int) -> str:
    return verdicts.entries[i].text.replace("\0", "\n")[:SHOWN]
