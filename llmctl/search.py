"""search: one question to a store, without a model that writes."""

from __future__ import annotations

from pathlib import Path

from llmctl.rag.retrieve import Hit, opened

__all__ = ["Hit", "search"]


def search(store: Path, query: str, k: int = 5) -> list[Hit]:
    """The k chunks of an ingest artifact that are nearest to the query, nearest first."""
    with opened(store) as retriever:
        return retriever.ask(query, k)
