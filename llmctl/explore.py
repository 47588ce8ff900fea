"""explore: what is in a dataset, as one HTML page and a few lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl import rows as row_files
from llmctl import shards, ui
from llmctl.errors import InputError, RecipeError
from llmctl.exploration import page
from llmctl.exploration.profile import Profile, figures, profile
from llmctl.exploration.views import View, parts, views
from llmctl.runner import require

if TYPE_CHECKING:
    from llmctl.rag.embedders.base import Embedder


def show(
    data: Path,
    out: Path,
    *,
    tokenizer: str | None,
    embedder: str | None,
    sample: int,
    seed: int,
    as_json: bool,
) -> None:
    """Write the page to `out` and print its path, or print the figures as JSON."""
    from llmctl.report.html import Report

    files = parts(data)
    for each in files.values():
        shards.tell_part(each)
    chosen = embedder_of(embedder)

    def rows() -> Iterator[View]:
        for split, each in files.items():
            yield from views(split, each)

    count = sum(row_files.count(path) for each in files.values() for path in each)
    found = profile(rows(), count, tokenizer=tokenizer, embedder=chosen, size=sample, seed=seed)
    if not found.sample.views:
        raise InputError(f"{data}: has no rows")
    report = Report(f"explore: {data}")
    page.write_sections(report, found)
    out.parent.mkdir(parents=True, exist_ok=True)
    report.write(out)
    if as_json:
        ui.result(json.dumps({"report": str(out), **figures(found)}, ensure_ascii=False, indent=1))
        return
    ui.table("", ["", str(data)], [list(line) for line in terminal(found)])
    ui.result(str(out))


def terminal(found: Profile) -> list[tuple[str, str]]:
    """The findings, with the most frequent requests and topics in one line each."""
    lines = page.findings(found)
    if found.verbs:
        most = found.verbs.most_common(6)
        lines.append(("asks to", ", ".join(f"{v} {n}".strip() for (v, n), _ in most)))
    for topic in found.topics[:3]:
        lines.append((f"topic of {topic.size:,} rows", ", ".join(topic.keywords[:6])))
    return lines


def embedder_of(kind: str | None) -> Embedder | None:
    """The embedder of that kind with its own defaults; None groups rows by their words."""
    if kind is None:
        return None
    from pydantic import ValidationError

    from llmctl.rag.embedders.base import Embedder

    try:
        found = Embedder.of(kind)
    except (ValidationError, ValueError) as error:
        raise RecipeError(f"--embedder {kind}: {error}") from None
    require(f"--embedder {kind}", found.needs)
    return found
