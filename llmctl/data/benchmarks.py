"""Benchmark items from files, folders, lm-eval tasks and eval recipes, as plain texts."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import artifact as artifacts
from llmctl import digest, shards
from llmctl import rows as row_files
from llmctl.data import lines
from llmctl.data.entries import short
from llmctl.errors import InputError

if TYPE_CHECKING:
    from llmctl.schema.dedup import Benchmark
    from llmctl.schema.eval import EvalRecipe

ASKED = (
    "question", "problem", "instruction", "query", "goal", "ctx", "sentence", "prompt", "text",
)  # fmt: skip
"""Fields that hold what is asked, the most telling first."""


@dataclass
class Items:
    """One benchmark: what is asked, where each item stands, and the digest of its data."""

    name: str
    data: str
    sha256: str | None
    texts: list[str] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    wheres: list[str] = field(default_factory=list)

    def add(self, identity: str, where: str, text: str) -> None:
        """One item; an empty one is left out."""
        if text.strip():
            self.texts.append(text)
            self.ids.append(identity)
            self.wheres.append(where)


def read(each: Benchmark) -> Iterator[Items]:
    """The benchmarks that one entry of the recipe names."""
    if each.task is not None:
        yield from _of_task(each.task, each.data, each.name)
        return
    assert each.data is not None
    evaluation = each.evaluation()
    if evaluation is not None:
        yield from _of_recipe(each, evaluation)
    else:
        yield from _of_path(each, each.data)


def _of_path(each: Benchmark, path: Path) -> Iterator[Items]:
    if path.is_dir() and artifacts.read_manifest(path) is None:
        files = [f for f in digest.files_of(path) if f.name.endswith(row_files.FORMATS)]
        if not files:
            raise InputError(f"{path}: has no {', '.join(row_files.FORMATS)} files")
        for file in files:
            name = file.relative_to(path).as_posix()
            for ending in row_files.FORMATS:
                name = name.removesuffix(ending)
            yield _of_files(each, [file], f"{each.name or path.name}/{name}")
        return
    yield _of_files(each, shards.find(path, "test"), each.name or path.name.split(".")[0])


def _of_files(each: Benchmark, files: list[Path], name: str) -> Items:
    items = Items(name, shards.name_of(files), shards.digest_of(files))
    for file in files:
        for where, row in lines.parsed(file):
            text = asked(row, tuple(each.fields), where)
            items.add(str(row.get("id") or row.get("task_id") or short(where)), short(where), text)
    if not items.texts:
        raise InputError(f"{items.data}: has no items")
    return items


def asked(row: Mapping[str, Any], fields: tuple[str, ...], where: str) -> str:
    """What an item asks: the named fields, or the one that benchmarks usually have."""
    if fields:
        return lines.text_of(row, fields, where).replace("\0", "\n")
    messages = row.get("messages")
    if isinstance(messages, list):
        turns = [m.get("content") for m in messages if isinstance(m, dict) and m["role"] == "user"]
        return "\n".join(turn for turn in turns if isinstance(turn, str))
    found = next((name for name in ASKED if row.get(name)), None)
    if found is None:
        raise InputError(
            f"{where}: none of {', '.join(ASKED)}; name the question's field in `fields` "
            f"(there are: {', '.join(row)})"
        )
    return lines.text_of(row, (found,), where).replace("\0", "\n")


def _of_task(task: str, data: Path | None, name: str | None) -> Iterator[Items]:
    """Prompts of every leaf task of lm-eval, as the harness writes them without examples."""
    from llmctl.evaluation.tasks.lm_eval import LmEvalTask

    sha256 = digest.of_path(data) if data else None  # before the working directory changes
    with LmEvalTask(task=task, data=data).loaded() as (_, tasks):
        for leaf, each in tasks.items():
            items = Items(name or leaf, f"lm-eval:{leaf}", sha256)
            for number, doc in enumerate(each.eval_docs):
                text = each.doc_to_text(doc)
                # some tasks choose between contexts; then doc_to_text is an option's number
                text = text if isinstance(text, str) else "\n".join(each.doc_to_choice(doc))
                items.add(f"{leaf}:{number}", f"{leaf}:{number}", text)
            yield items


def _of_recipe(each: Benchmark, recipe: EvalRecipe) -> Iterator[Items]:
    """What an eval recipe measures with: its tasks, by their names there."""
    from llmctl.evaluation.tasks.lm_eval import LmEvalTask

    for task in recipe.tasks:
        if isinstance(task, LmEvalTask):
            yield from _of_task(task.task, task.data, None)
            continue
        path = next((Path(p) for p in task.inputs().values()), None)
        items = Items(task.title, str(path), digest.of_path(path) if path else None)
        with tempfile.TemporaryDirectory() as work:
            for item in task.items(Path(work), None, recipe.seed):
                text = asked(item.data, tuple(each.fields), item.where)
                items.add(item.id, short(item.where), text)
        yield items
