"""The dataset card: README.md with the front matter that the Hub reads, and where rows are from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from llmctl.records import form_of

if TYPE_CHECKING:
    from llmctl.artifact import Artifact
    from llmctl.data.lengths import Lengths
    from llmctl.records import Dropped
    from llmctl.schema.build_dataset import BuildDatasetRecipe

Row = Mapping[str, Any]
SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (10**6, "100K<n<1M"))
"""Categories of the Hub, each with the number of rows that it stays below."""
FORMS = {
    "examples": "conversations: `messages` of `role` and `content`",
    "pairs": "preference pairs: `prompt`, `chosen`, `rejected`",
    "texts": "raw texts: `text`",
    "labelled": "labelled answers: `prompt`, `completion`, `label`",
    "candidates": "answers to compare: `prompt`, `answers`",
}
UNKNOWN = "unknown"


def licence(recipe: BuildDatasetRecipe, artifact: Artifact) -> str:
    """The recipe's licence, else the one that all sources name, else `unknown`."""
    if recipe.card.license:
        return recipe.card.license
    manifests = [artifact.manifest_of(key) or {} for key in recipe.source_inputs()]
    named = {str(each.get("extra", {}).get("license") or UNKNOWN) for each in manifests}
    return named.pop() if len(named) == 1 else UNKNOWN


def write(
    recipe: BuildDatasetRecipe,
    artifact: Artifact,
    parts: Mapping[str, Sequence[Row]],
    dropped: Sequence[Dropped],
    compared: Lengths | None,
) -> None:
    """Write README.md; it says the same for the same request."""
    rows = [row for each in parts.values() for row in each]
    head = yaml.safe_dump(
        front(recipe, artifact, parts, rows), sort_keys=False, allow_unicode=True, width=1000
    )
    sections = [
        f"---\n{head}---",
        f"# {title(recipe)}",
        recipe.card.description or "",
        "## Rows",
        *_rows(parts, rows),
        "## Where they come from",
        *_sources(recipe, artifact, rows),
        "## How they were made",
        _list(_steps(recipe, rows)),
        "## What was left out",
        _dropped(dropped),
        "## Known limits",
        _list(limits(recipe, artifact, rows, compared)),
        "## The request",
        "Made by `llmctl build-dataset` with this recipe, defaults included:",
        f"```yaml\n{yaml.safe_dump(_request(recipe), sort_keys=False, allow_unicode=True)}```",
    ]
    artifact.write_text("README.md", "\n\n".join(filter(None, sections)) + "\n")


def title(recipe: BuildDatasetRecipe) -> str:
    """The name of the dataset: the recipe's, else that on the Hub, else the folder's."""
    name = recipe.push.repo.rpartition("/")[2] if recipe.push else recipe.out.name
    return recipe.card.title or name


def front(
    recipe: BuildDatasetRecipe,
    artifact: Artifact,
    parts: Mapping[str, Sequence[Row]],
    rows: Sequence[Row],
) -> dict[str, Any]:
    """What the Hub reads: licence, languages, size, tags, and which file is which split."""
    size = next((name for limit, name in SIZES if len(rows) < limit), "n>1M")
    tags = ["llmctl", *(["synthetic"] if generators(rows) else []), *recipe.card.tags]
    if form_of(rows[0]) in ("pairs", "labelled", "candidates"):
        tags.insert(1, "preference")
    splits = [{"split": name, "path": f"{name}.jsonl"} for name, each in parts.items() if each]
    found: dict[str, Any] = {"license": licence(recipe, artifact)}
    if recipe.card.language:
        found["language"] = recipe.card.language
    return {
        **found,
        "pretty_name": title(recipe),
        "size_categories": [size],
        "task_categories": ["text-generation"],
        "tags": list(dict.fromkeys(tags)),
        "configs": [{"config_name": "default", "data_files": splits}],
    }


def generators(rows: Sequence[Row]) -> Counter[str]:
    """Model and prompt version -> rows that it wrote."""
    found: Counter[str] = Counter()
    for row in rows:
        meta = row.get("meta") or {}
        each = [meta.get("generator"), *(meta.get("generators") or {}).values()]
        named = {_generator(g) for g in each if isinstance(g, Mapping)}
        found.update(named)
    return found


def _generator(generator: Mapping[str, Any]) -> str:
    model = generator.get("model") or generator.get("engine") or "a model"
    prompt = f", prompt {generator['prompt']}" if generator.get("prompt") else ""
    return f"{model} ({generator.get('engine', 'engine')}{prompt})"


def _rows(parts: Mapping[str, Sequence[Row]], rows: Sequence[Row]) -> list[str]:
    return [
        _table(["split", "rows"], [[name, len(each)] for name, each in parts.items()]),
        f"The rows are {FORMS[form_of(rows[0])]}. The `source` of a row names the document and, "
        "where it is known, the span of characters that it comes from; `meta` has the builder, the "
        "model that wrote it and every judgement.",
    ]


def _sources(recipe: BuildDatasetRecipe, artifact: Artifact, rows: Sequence[Row]) -> list[str]:
    lines = []
    for key, ref in recipe.source_inputs().items():
        each = artifact.inputs[key]
        stage = f"llmctl {each.manifest['stage']}" if each.manifest else "given as it is"
        lines.append([Path(ref).name, stage, f"`{each.digest[:16]}`"])
    documents = {str(row["source"].get("uri") or row["source"].get("document")) for row in rows}
    formats = sorted({f["format"] for f in artifact.extra.get("formats", {}).values()})
    told = f"Files or documents that rows come from: {len(documents)}."
    read = f" Read as: {', '.join(formats)}." if formats else ""
    return [_table(["source", "made by", "sha256"], lines), told + read]


def _steps(recipe: BuildDatasetRecipe, rows: Sequence[Row]) -> list[str]:
    names = {
        "builders": [each.kind for each in recipe.builders],
        "filters": [each.kind for each in recipe.filters],
        "judges": [each.title for each in recipe.judges],
        "selection": [each.kind for each in recipe.select],
    }
    lines = [f"{name}: {', '.join(each)}" for name, each in names.items() if each]
    by = recipe.split.group_by or recipe.split.by
    if by == "document" and all("row" in row["source"] for row in rows):
        by = "the first question"
    lines.append(f"split: by {by}, never by row; seed {recipe.seed}")
    return lines + [
        f"written by {_cell(name)}: {count} rows" for name, count in generators(rows).most_common()
    ]


def _dropped(dropped: Sequence[Dropped]) -> str:
    reasons = Counter(each.reason for each in dropped).most_common()
    return _table(["reason", "rows"], reasons) if reasons else "Nothing."


def _list(lines: Sequence[str]) -> str:
    return "\n".join(f"- {each}" for each in lines)


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_cell(str(cell)) for cell in each)} |" for each in lines)


def limits(
    recipe: BuildDatasetRecipe,
    artifact: Artifact,
    rows: Sequence[Row],
    compared: Lengths | None,
) -> list[str]:
    """What somebody who trains on the rows should know, as far as the run itself tells it."""
    found = []
    if licence(recipe, artifact) == UNKNOWN:
        found.append("No licence is named, neither by the recipe nor by the sources.")
    if generators(rows):
        found.append("Rows were written by a model: they can be wrong in ways that sound right.")
    if generators(rows) and not recipe.judges:
        found.append("No judge and no person looked at every row.")
    if not any(each.kind == "personal" for each in recipe.filters):
        found.append("Personal data was not looked for (filter `personal`).")
    if compared and compared.systematic:
        found.append(f"Length: {compared.warning()}.")
    found.append("Leaks of benchmarks are looked for by `llmctl dedup`, not here.")
    return found


def _request(recipe: BuildDatasetRecipe) -> dict[str, Any]:
    """The recipe without empty values and without its folder, which says nothing elsewhere."""
    given = {key: value for key, value in recipe.dump().items() if key != "out"}
    return {key: value for key, value in given.items() if value not in (None, [], {})}


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
