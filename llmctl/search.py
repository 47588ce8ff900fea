"""search: one question to a store, without a model that writes."""

from __future__ import annotations

import json
from pathlib import Path

from llmctl import ui
from llmctl.rag.retrieve import Hit, opened

__all__ = ["Hit", "search", "show"]


def search(store: Path, query: str, k: int = 5) -> list[Hit]:
    """The k chunks of an ingest artifact that are nearest to the query, nearest first."""
    with opened(store) as retriever:
        return retriever.ask(query, k)


def show(store: Path, query: str, k: int, as_json: bool) -> None:
    """Print the hits on stdout: score, where it stands, and how it begins."""
    hits = search(store, query, k)
    if as_json:
        ui.result(json.dumps(hits, indent=1, ensure_ascii=False))
        return
    rows = [[f"{hit['score']:.3f}", place(hit), beginning(hit["text"])] for hit in hits]
    for line in ui.table_lines("", ["score", "source", "text"], rows):
        ui.result(line)


def place(hit: Hit) -> str:
    """Document and characters of a hit."""
    source = hit["source"]
    return f"{source.get('uri', hit['id'])}:{source.get('start', 0)}-{source.get('end', 0)}"


def beginning(text: str, characters: int = 90) -> str:
    """The first words of a text on one line."""
    line = " ".join(text.split())
    return line if len(line) <= characters else line[: characters - 1].rstrip() + "…"
