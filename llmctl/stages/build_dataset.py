"""build-dataset: documents, chunks or rows -> train, validation and test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from random import Random
from typing import Any

from llmctl import digest, ui
from llmctl.artifact import Artifact
from llmctl.data import card, dataset_report, export, hub, judging, lengths
from llmctl.data.builders.base import Builder
from llmctl.data.fitness import fit
from llmctl.data.material import (
    Gathered,
    Material,
    Row,
    gather,
    texts_as_documents,
    whole_chunks,
)
from llmctl.errors import InputError
from llmctl.generation.asking import Asking
from llmctl.generation.spending import Spending, charged
from llmctl.records import Dropped, flat, form_of, row_id
from llmctl.schema.build_dataset import BuildDatasetRecipe, Split

SPLITS = ("train", "validation", "test")


def run(recipe: BuildDatasetRecipe, artifact: Artifact) -> None:
    """Write `train.jsonl`, `validation.jsonl`, `test.jsonl`, `dropped.jsonl` and `report.html`.

    Candidates, which people or a judge have yet to compare, are written as `queue.jsonl` instead.
    Steps follow each other: builders, filters, judges, selectors, split. Each takes the rows so
    far and gives rows; what leaves goes to `dropped` with its reason.
    """
    if recipe.push is not None:
        hub.check(recipe.push)
    dropped: list[Dropped] = []
    spending = spending_of(recipe)
    asking = Asking(replies_file(artifact), spending)
    sources = [artifact.input(key) for key in recipe.source_inputs()]
    gathered = Gathered(dropped=dropped)
    material = gather(sources, recipe.seed, asking, recipe.format, gathered)
    artifact.extra["formats"] = gathered.formats
    made = built(recipe, material, dropped)
    kept = collected(_filtered(recipe, collected(fit(made), dropped)), dropped)
    judged: list[judging.Judged] = []
    with charged(spending):
        kept = collected(judging.judged(recipe.judges, kept, asking.cache, judged), dropped)
    spending.check()
    for selector in recipe.select:
        kept = collected(selector.select(kept, recipe.seed), dropped)
    if not kept:
        last = f"; the last: {dropped[-1].detail or dropped[-1].reason}" if dropped else ""
        raise InputError(f"{recipe.source_name()}: gave no rows; {_reasons(dropped)}{last}")
    parts = {"queue": kept} if form_of(kept[0]) == "candidates" else splits(recipe, kept)
    for name, each in parts.items():
        artifact.write_jsonl(f"{name}.jsonl", each)
    artifact.write_jsonl("dropped.jsonl", map(asdict, dropped))
    artifact.dropped.update(Counter(each.reason for each in dropped))
    artifact.metrics.update(made=len(made), kept=len(kept), **spending.counts)
    artifact.metrics.update({f"rows_{name}": len(each) for name, each in parts.items()})
    artifact.metrics.update(material.figures)
    for kind, found in material.figures.items():
        told = (f"{name.replace('_', ' ')} {value:.3g}" for name, value in found.items())
        artifact.summary.append((kind, ", ".join(told)))
    if judged:
        artifact.metrics["judges"] = judging.metrics(judged)
        artifact.summary += [(f"judge {each.setting.title}", each.line()) for each in judged]
    compared = lengths.measured(kept)
    if compared:
        artifact.metrics.update(compared.metrics())
        if compared.systematic:
            ui.warn(compared.warning())
    dataset_report.write(
        recipe, artifact, len(made), parts, dropped, judged, compared, material.figures
    )
    hand_on(recipe, artifact, parts, dropped, compared)
    counts = ", ".join(f"{len(each)} {name}" for name, each in parts.items())
    artifact.summary.append(("rows", counts))
    if dropped:
        artifact.summary.append(("dropped", _reasons(dropped)))
    if spending.counts:
        artifact.extra["prompts"] = asking.prompts
        artifact.metrics["cost"] = round(spending.cost, 6)
        artifact.summary.append(("engine", spending.told()))


def spending_of(recipe: BuildDatasetRecipe) -> Spending:
    """The account of one run, with the recipe's limits."""
    return Spending(recipe.max_cost, recipe.max_calls, recipe.max_minutes, recipe.max_failures)


def replies_file(artifact: Artifact) -> Path:
    """Where replies of models are kept: for all runs, so that an edited recipe repeats no call."""
    folder = digest.cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        folder = artifact.scratch
    return folder / "replies.sqlite"


def hand_on(
    recipe: BuildDatasetRecipe,
    artifact: Artifact,
    parts: dict[str, list[Row]],
    dropped: list[Dropped],
    compared: lengths.Lengths | None,
) -> None:
    """Write the card and the copy for other tools, and upload them where the recipe says so."""
    artifact.extra["license"] = card.licence(recipe, artifact)
    card.write(recipe, artifact, parts, dropped, compared)
    if recipe.export is not None:
        left: list[Dropped] | None = [] if recipe.export.skip_unheld else None
        for name, each in parts.items():
            file = f"export/{name}.{recipe.export.file}"
            path = artifact.path(file)
            artifact.rows[file] = export.write(path, each, recipe.export.format, left)
        if left:
            artifact.write_jsonl("export/left_out.jsonl", map(asdict, left))
            artifact.metrics["export_left_out"] = len(left)
            ui.warn(f"{len(left)} rows are not in the export, the first: {left[0].detail}")
    if recipe.push is not None:
        address = hub.upload(recipe.push, artifact.folder)
        artifact.extra["pushed"] = address
        artifact.summary.append(("uploaded", address))


def splits(recipe: BuildDatasetRecipe, kept: list[Row]) -> dict[str, list[Row]]:
    """The rows of each split, in their own order."""
    names = groups_of(kept, recipe.split)
    sides = divide(names, recipe.split, recipe.seed)
    parts: dict[str, list[Row]] = {name: [] for name in SPLITS}
    for row, name in zip(kept, names, strict=True):
        parts[sides[name]].append(row)
    return parts


def built(recipe: BuildDatasetRecipe, material: Material, dropped: list[Dropped]) -> list[Row]:
    """The rows after the last builder; without builders, the rows of the source."""
    makers = [each for each in recipe.builders if not each.reads]
    documents = material.documents
    given = material.rows
    if makers:
        texts = list(texts_as_documents(material))
        documents = [*documents, *texts]
        given = [row for row in given if form_of(row) != "texts"]
    chunks = material.chunks or list(whole_chunks(documents))
    material = replace(material, documents=documents, chunks=chunks, rows=given)
    for builder in recipe.builders:
        _check_step(recipe, builder, material, dropped)
        ui.detail(f"builder {builder.kind}")
        new = collected(builder.build(material), dropped)
        rows = new if builder.reads else [*material.rows, *new]
        material = replace(material, rows=rows)
    if not material.rows and not recipe.builders:
        what = f"{len(documents)} documents and " if documents else ""
        raise InputError(f"{recipe.source_name()}: has {what}no rows; give `builders` to make some")
    _check_forms(recipe, material.rows)
    return material.rows


def collected(results: Iterable[Row | Dropped], dropped: list[Dropped]) -> list[Row]:
    """The rows that a step gives; what it dropped is added to `dropped`."""
    found: list[Row] = []
    for each in results:
        if isinstance(each, Dropped):
            dropped.append(each)
        else:
            found.append(each)
    return found


def _check_step(
    recipe: BuildDatasetRecipe, builder: Builder, material: Material, dropped: list[Dropped]
) -> None:
    """A builder that has nothing to work on is refused with what it needs."""
    where = recipe.source_name()
    if not builder.reads:
        if not getattr(material, builder.works_on):
            raise InputError(
                f"{where}: has no {builder.works_on}, which {builder.kind} works on; "
                "give an artifact of ingest, or rows with `text`"
            )
        return
    if dropped and not material.rows:
        raise InputError(
            f"{where}: nothing is left for {builder.kind}: {_reasons(dropped)}; the last: "
            f"{dropped[-1].detail or dropped[-1].reason}"
        )
    wrong = sorted({form_of(row) for row in material.rows} - set(builder.reads))
    if wrong or not material.rows:
        raise InputError(
            f"{where}: {builder.kind} works on {' or '.join(builder.reads)}, "
            f"found {' and '.join(wrong) or 'no rows'}; put a builder that makes them in front"
        )


def _check_forms(recipe: BuildDatasetRecipe, made: list[Row]) -> None:
    forms = sorted({form_of(row) for row in made})
    if len(forms) > 1:
        raise InputError(
            f"{recipe.source_name()}: rows of one form are needed, found {' and '.join(forms)}"
        )


def _reasons(dropped: list[Dropped]) -> str:
    counts = Counter(each.reason for each in dropped)
    return ", ".join(f"{count} {reason}" for reason, count in counts.most_common()) or "none"


def _filtered(recipe: BuildDatasetRecipe, made: list[Row]) -> Iterator[Row | Dropped]:
    judges = [(each.kind, each.start()) for each in recipe.filters]
    for row in made:
        for kind, judge in judges:
            detail = judge(row)
            if detail is not None:
                yield Dropped(str(row["id"]), kind, detail)
                break
        else:
            yield row


def groups_of(kept: Sequence[Row], split: Split) -> list[str]:
    """The group of each row; what was made of one row of a table is of that row's group."""
    names = [group_of(row, split) for row in kept]
    if split.group_by is not None or split.by != "document":
        return names
    above: dict[str, str] = {}

    def top(name: str) -> str:
        while name in above:
            above[name] = name = above.get(above[name], above[name])
        return name

    begun_at: dict[tuple[str, str], str] = {}
    for row, name in zip(kept, names, strict=True):
        if "row" in row["source"]:
            place = str(row["source"].get("document")), str(row["source"]["row"])
            one, other = top(begun_at.setdefault(place, name)), top(name)
            if one != other:
                above[max(one, other)] = min(one, other)
    return [top(name) for name in names]


def group_of(row: Row, split: Split) -> str:
    """What must stay on one side of the split, as far as the row by itself tells."""
    if split.group_by is not None:
        return f"{split.group_by}={field_of(row, split.group_by)}"
    source = row["source"]
    if "row" in source and split.by == "document":  # of a table, where no document is known
        return begun(row)
    document = str(source.get("document") or source.get("uri") or row["id"])
    if split.by == "document":
        return document
    return f"{document}:{source.get('start', source.get('row', row['id']))}"


def field_of(row: Row, dotted: str) -> str:
    """A field of a row, looked for in `meta` too; its group."""
    for start in (row, row["meta"]):
        value: Any = start
        for part in dotted.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None:
            return str(value)
    known = ", ".join(sorted({*row, *row["meta"]}))
    raise InputError(f"split.group_by: row {row['id']} has no field '{dotted}'; there are: {known}")


def begun(row: Row) -> str:
    """Rows that begin with the same question may be of one conversation: they stay together."""
    turns = row.get("prompt") or row.get("messages") or ()
    first = next((each for each in turns if each["role"] == "user"), None)
    return row_id(flat([first])) if first else str(row["source"]["document"])


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
