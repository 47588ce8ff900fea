"""A small store without a model: vectors are hashed words, the search looks at every vector."""

from __future__ import annotations

import json
import zlib
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from llmctl import rows
from llmctl.rag import keywords
from llmctl.rag.retrieve import Retriever
from llmctl.rag.stores.base import Near
from llmctl.rag.terms import words

DIMENSIONS = 64
DOCUMENTS = {
    "pump.md": "The heat pump takes warmth from the air. Its filter is cleaned every month. "
    "A dirty filter makes the pump loud. The pump stands behind the house.",
    "oven.md": "The oven bakes bread at 220 degrees. Its filter catches smoke. "
    "Clean the oven door with a wet cloth.",
    "garden.md": "Tomatoes need sun and water. Roses are cut in March. The hedge is trimmed twice.",
    "tax.md": "The tax office opens at nine. Forms are filled in with black ink.",
}


class Hashed:
    """Counts of words in 64 places; texts that share words have a large cosine."""

    dimensions, cut = DIMENSIONS, ()

    def query(self, text: str) -> np.ndarray:
        found = np.full(DIMENSIONS, 1e-3, dtype=np.float32)
        for word in words(text):
            found[zlib.crc32(word.encode()) % DIMENSIONS] += 1
        return found / np.linalg.norm(found)

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        return np.stack([self.query(text) for text in texts])

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        return [self.texts(list(words(text)) or ["."]) for text in texts]


class Plain:
    """Every vector is looked at."""

    def __init__(self, ids: list[str], vectors: np.ndarray) -> None:
        self.place = {key: row for row, key in enumerate(ids)}
        self.all = vectors

    def near(
        self, vector: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        keys = list(self.place if allowed is None else allowed)
        scores = self.all[[self.place[key] for key in keys]] @ vector if keys else ()
        found = [Near(key, round(float(s), 6)) for key, s in zip(keys, scores, strict=True)]
        return sorted(found, key=lambda near: (-near.score, near.id))[:k]

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        return self.all[[self.place[key] for key in ids]]


def shelf(
    folder: Path, documents: dict[str, str] | None = None, parents: bool = False
) -> Retriever:
    """A store of these documents with one chunk for each sentence."""
    from llmctl.rag.sentences import sentences

    texts = documents or DOCUMENTS
    whole, chunks, bigger = [], [], []
    for number, (uri, text) in enumerate(texts.items()):
        source = {"document": f"d{number}", "uri": uri}
        meta = {"title": uri.partition(".")[0], "headings": [], "year": 2020 + number}
        whole.append({"id": f"d{number}", "text": text, "title": meta["title"], "uri": uri,
                      "source": source, "meta": meta})  # fmt: skip
        bigger.append({"id": f"p{number}", "text": text, "document_id": f"d{number}", "start": 0,
                       "end": len(text), "source": source, "meta": meta})  # fmt: skip
        for start, end in sentences(text):
            end = start + len(text[start:end].rstrip())
            chunks.append({
                "id": f"c{len(chunks):02}", "text": text[start:end], "document_id": f"d{number}",
                "start": start, "end": end, "meta": meta,
                "source": {**source, "start": start, "end": end},
                **({"parent_id": f"p{number}"} if parents else {}),
            })  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    rows.write_jsonl(folder / "documents.jsonl", whole)
    rows.write_jsonl(folder / "chunks.jsonl", chunks)
    if parents:
        rows.write_jsonl(folder / "parents.jsonl", bigger)
    fields = {
        "title": {"type": "string", "values": [d["title"] for d in whole]},
        "year": {"type": "number", "values": [2020, 2021], "min": 2020, "max": 2023},
    }
    (folder / "metadata.json").write_text(json.dumps({"fields": fields}))
    keywords.build(folder / "keywords", ((c["id"], c["text"]) for c in chunks))
    embedder: Any = Hashed()
    store = Plain([c["id"] for c in chunks], embedder.texts([c["text"] for c in chunks]))
    return Retriever(folder, embedder, store, ExitStack())
