"""search: one question to a store, without a model that writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmctl import ui
from llmctl.rag.retrieve import Found, Hit, opened
from llmctl.schema.retrieve import Retrieve

__all__ = ["Hit", "part_of", "search", "show"]


def search(store: Path, query: str, k: int = 5) -> list[Hit]:
    """The k best chunks of an ingest artifact by the default retrieval, best first."""
    with opened(store) as retriever:
        return retriever.ask(query, k)


def part_of(k: int, sets: Sequence[str] = (), **given: Any) -> Retrieve:
    """The retrieval that the options ask for; `sets` are KEY=VALUE with YAML values."""
    from llmctl.schema.base import checked, parted, with_sets
    from llmctl.schema.source import Layer, Place

    layer = Layer({"k": k} | {name: value for name, value in given.items() if value is not None})
    layer.places = {(name,): Place("-k" if name == "k" else f"--{name}") for name in layer.data}
    layer = with_sets(layer, Retrieve, [parted(each) for each in sets])
    wanted = layer.data["k"]
    layer.data.setdefault("candidates", max(100, wanted if isinstance(wanted, int) else 1))
    return checked(Retrieve, layer, Path("--set"))


def show(store: Path, query: str, part: Retrieve, as_json: bool, explain: bool) -> None:
    """Print the hits on stdout: score, where it stands, and how it begins."""
    with opened(store) as retriever:
        found = retriever.search(query, part)
    if as_json:
        document: Any = found.hits
        if explain:
            document = {
                "query": query,
                "searched": [each.text for each in found.asked.queries],
                "filter": found.asked.filter,
                "hits": found.hits,
                "trace": found.trace,
            }
        ui.result(json.dumps(document, indent=1, ensure_ascii=False))
        return
    if not found.hits:
        ui.note("nothing was found")
    columns = ["score", "source", "text"]
    rows = [[f"{hit['score']:.3f}", place(hit), beginning(hit["text"])] for hit in found.hits]
    if explain:
        columns.insert(1, "parts")
        for row, hit in zip(rows, found.hits, strict=True):
            row.insert(1, " ".join(f"{name}={value:g}" for name, value in hit["parts"].items()))
    ui.result_table("", columns, rows)
    if explain:
        ui.result_table("steps", ["step", "ms", "what it did"], steps(found))


def steps(found: Found) -> list[list[str]]:
    """The trace as rows of a table."""
    from llmctl.rag.trace import lines

    return [list(row) for row in lines(found.trace)]


def place(hit: Hit) -> str:
    """Document and characters of a hit."""
    source = hit["source"]
    return f"{source.get('uri', hit['id'])}:{source.get('start', 0)}-{source.get('end', 0)}"


def beginning(text: str, characters: int = 90) -> str:
    """The first words of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"
