"""build-dataset: documents, chunks or rows -> train, validation and test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import Random
from typing import Any

from llmctl import rows, ui
from llmctl.artifact import Artifact
from llmctl.data.builders.base import Dropped, Material, Usage
from llmctl.data.filters.base import answers_of, question_of
from llmctl.errors import InputError
from llmctl.records import check_example, check_pair, flat, row_id
from llmctl.schema.build_dataset import BuildDatasetRecipe, Split

SPLITS = ("train", "validation", "test")


def run(recipe: BuildDatasetRecipe, artifact: Artifact) -> None:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl`, `dropped.jsonl` and `report.html`."""
    dropped: list[dict[str, str]] = []
    usage = Counter[str]()
    made = list(_rows(recipe, artifact, dropped, usage))
    kept = list(_filtered(recipe, made, dropped))
    if not kept:
        raise InputError(f"{recipe.source}: gave no rows; {_reasons(dropped)}")
    groups = divide([group_of(row, recipe.split) for row in kept], recipe.split, recipe.seed)
    parts: dict[str, list[Mapping[str, Any]]] = {name: [] for name in SPLITS}
    for row in kept:
        parts[groups[group_of(row, recipe.split)]].append(row)
    for name in SPLITS:
        artifact.write_jsonl(f"{name}.jsonl", parts[name])
    artifact.write_jsonl("dropped.jsonl", dropped)
    artifact.dropped.update(Counter(row["reason"] for row in dropped))
    artifact.metrics.update(made=len(made), kept=len(kept), **usage)
    artifact.metrics.update({f"rows_{name}": len(parts[name]) for name in SPLITS})
    _report(recipe, artifact, made, parts, dropped)
    counts = ", ".join(f"{len(parts[name])} {name}" for name in SPLITS)
    artifact.summary.append(("rows", counts))
    if dropped:
        artifact.summary.append(("dropped", _reasons(dropped)))
    if usage["calls"]:
        artifact.summary.append(
            ("engine", f"{usage['calls']} calls, {usage['completion_tokens']} tokens written")
        )


def _reasons(dropped: list[dict[str, str]]) -> str:
    counts = Counter(row["reason"] for row in dropped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "none"


def _rows(
    recipe: BuildDatasetRecipe, artifact: Artifact, dropped: list[dict[str, str]], usage: Any
) -> Iterator[Mapping[str, Any]]:
    """What the builders make, or the rows of the source."""
    source = artifact.input("source")
    if not recipe.builders:
        yield from _given(rows.find(source))
        return
    material = Material(*_documents(source), artifact.scratch / "replies.sqlite")
    for builder in recipe.builders:
        ui.detail(f"builder {builder.kind}")
        for each in builder.build(material, recipe.seed):
            if isinstance(each, Dropped):
                dropped.append({"id": each.id, "reason": each.reason, "detail": each.detail})
            elif isinstance(each, Usage):
                usage.update(
                    calls=1,
                    cached_calls=int(each.cached),
                    prompt_tokens=each.prompt_tokens,
                    completion_tokens=each.completion_tokens,
                )
            else:
                yield each


def _given(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows that are examples or pairs already; checked, with their place as the source."""
    for number, row in enumerate(rows.read(path), 1):
        where = f"{path}: row {number}"
        if "chosen" in row or "rejected" in row:
            check_pair(row, where)
        else:
            check_example(row, where)
        text = flat(row.get("messages") or [*row["prompt"], *row["chosen"], *row["rejected"]])
        place = {"uri": str(path.name), "document": f"{path.name}#{number}", "row": number}
        yield {"id": row_id(text), **row, "source": row.get("source") or place}


def _documents(folder: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    if not (folder / "documents.jsonl").is_file():
        raise InputError(f"{folder}: has no documents.jsonl; give an artifact of ingest")
    documents = list(rows.read(folder / "documents.jsonl"))
    if not documents:
        raise InputError(f"{folder}: has no documents")
    chunks = folder / "chunks.jsonl"
    return documents, list(rows.read(chunks)) if chunks.is_file() else []


def _filtered(
    recipe: BuildDatasetRecipe, made: list[Mapping[str, Any]], dropped: list[dict[str, str]]
) -> Iterator[Mapping[str, Any]]:
    judges = [(each.kind, each.start()) for each in recipe.filters]
    for row in made:
        for kind, judge in judges:
            detail = judge(row)
            if detail is not None:
                dropped.append({"id": str(row["id"]), "reason": kind, "detail": detail})
                break
        else:
            yield row


def group_of(row: Mapping[str, Any], split: Split) -> str:
    """What must stay on one side of the split."""
    source = row["source"]
    document = str(source.get("document") or source.get("uri") or row["id"])
    return document if split.by == "document" else f"{document}:{source.get('start', row['id'])}"


def divide(groups: list[str], split: Split, seed: int) -> dict[str, str]:
    """Group -> split; a share above 0 gets at least one group, and so does train."""
    names = sorted(set(groups))
    wanted = {name: getattr(split, name) for name in ("validation", "test")}
    if len(names) < 1 + sum(share > 0 for share in wanted.values()):
        what = f"{split.by}{'' if len(names) == 1 else 's'}"
        raise InputError(
            f"{len(names)} {what} cannot be divided into train, validation and test; "
            "add documents, use `split: {by: section}`, or set a share to 0"
        )
    Random(seed).shuffle(names)
    found = dict.fromkeys(names, "train")
    counts = {
        name: max(1, round(share * len(names))) if share > 0 else 0
        for name, share in wanted.items()
    }
    while sum(counts.values()) >= len(names):  # both shares were rounded up
        counts[max(counts, key=lambda name: counts[name])] -= 1
    at = 0
    for split_name, count in counts.items():
        found |= dict.fromkeys(names[at : at + count], split_name)
        at += count
    return found


def _report(
    recipe: BuildDatasetRecipe,
    artifact: Artifact,
    made: list[Mapping[str, Any]],
    parts: dict[str, list[Mapping[str, Any]]],
    dropped: list[dict[str, str]],
) -> None:
    from llmctl.report.html import Report

    report = Report(f"build-dataset: {recipe.out}")
    kept = [row for name in SPLITS for row in parts[name]]
    report.facts([("source", recipe.source), ("made", len(made)), ("kept", len(kept))])
    report.table(["split", "rows"], [[name, len(parts[name])] for name in SPLITS])
    reasons = Counter(row["reason"] for row in dropped)
    funnel = [("made", float(len(made)), None)]
    funnel += [(reason, -float(count), None) for reason, count in reasons.most_common()]
    report.bars("from made to kept", [*funnel, ("kept", float(len(kept)), None)], "rows")
    report.histogram(
        "length of answers",
        {n: [len(a.split()) for row in parts[n] for a in answers_of(row)] for n in SPLITS},
        "words",
    )
    shown = Random(recipe.seed).sample(kept, min(20, len(kept)))
    report.examples(
        "20 random rows", [(question_of(row), "\n---\n".join(answers_of(row))) for row in shown]
    )
    if dropped:
        report.heading("dropped")
        report.table(
            ["row", "reason", "detail"],
            [[row["id"], row["reason"], row["detail"]] for row in dropped[:200]],
        )
    report.write(artifact.path("report.html"))
