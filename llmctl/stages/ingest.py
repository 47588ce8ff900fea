"""ingest: documents -> clean text -> chunks -> vectors -> a store that can be asked."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.rag import keywords
from llmctl.rag.cutting import cut, embedded_text
from llmctl.rag.metadata import Described
from llmctl.rag.reading import read
from llmctl.records import Chunk, Document, Parent, row_id
from llmctl.schema.ingest import IngestRecipe

if TYPE_CHECKING:
    import numpy as np

GROUP = 64
"""Chunks after which vectors are kept for a run that is killed: about two seconds of work."""


def run(recipe: IngestRecipe, artifact: Artifact) -> None:
    """Write documents.jsonl, chunks.jsonl, dropped.jsonl, store/ and keywords/."""
    documents, dropped = read(recipe, artifact.metrics, artifact.scratch / "source")
    artifact.dropped.update(row["reason"] for row in dropped)
    if not documents:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(artifact.dropped.items()))
        what = f"none of its {len(dropped)} documents can be used ({reasons})" if dropped else ""
        raise InputError(
            f"{recipe.source.label()}: {what or 'holds no documents'}; {_wanted(recipe)}"
        )
    chunks, parents = _cut(recipe, documents)
    if not chunks:
        raise InputError(f"{recipe.source.label()}: no text is left to cut; check `cleaners`")
    artifact.write_jsonl("documents.jsonl", documents)
    artifact.write_jsonl("chunks.jsonl", chunks)
    if parents:
        artifact.write_jsonl("parents.jsonl", parents)
    artifact.write_jsonl("dropped.jsonl", dropped)
    described = Described(recipe.metadata.types)
    for chunk in chunks:
        described.add(chunk)
    artifact.write_json("metadata.json", described.row())

    vectors = embed(recipe, artifact, chunks)
    with ui.progress("store", 1) as advance:
        folder = artifact.path("store/x").parent
        _emptied(folder)
        recipe.store.build(folder, chunks, vectors)
        advance(1)
    texts = ((chunk["id"], embedded_text(chunk, recipe)) for chunk in chunks)
    keywords.build(artifact.path("keywords/x").parent, texts, recipe.keywords)
    artifact.determinism = "seeded"  # the rows are the same bytes, the store's ids are not
    artifact.metrics |= {
        "documents": len(documents),
        "chunks": len(chunks),
        "characters": sum(len(document["text"]) for document in documents),
        "dimensions": int(vectors.shape[1]),
    }
    _tell(artifact, dropped)


def _cut(recipe: IngestRecipe, documents: Sequence[Document]) -> tuple[list[Chunk], list[Parent]]:
    """The chunks and the parents of all documents."""
    chunks: list[Chunk] = []
    parents: list[Parent] = []
    with Lazy(recipe) as live:
        for document in documents:
            embed = live.get().texts if recipe.chunker.embeds else None
            found = cut(recipe, document, embed)
            chunks += found.chunks
            parents += found.parents
    return chunks, parents


def groups(chunks: Sequence[Chunk]) -> Iterator[list[Chunk]]:
    """Whole documents together until there are GROUP chunks: the same groups on every run."""
    group: list[Chunk] = []
    for chunk in chunks:
        if len(group) >= GROUP and chunk["document_id"] != group[-1]["document_id"]:
            yield group
            group = []
        group.append(chunk)
    if group:
        yield group


def embed(recipe: IngestRecipe, artifact: Artifact, chunks: Sequence[Chunk]) -> np.ndarray:
    """Vectors of all chunks, shape (chunks, dimensions); what a killed run made is taken over."""
    import numpy as np

    found: list[np.ndarray] = []
    cuts = 0
    with ui.progress("embed", len(chunks)) as advance, Lazy(recipe) as live:
        for group in groups(chunks):
            name = row_id(*(chunk["id"] for chunk in group))
            kept, note = artifact.scratch / f"{name}.npy", artifact.scratch / f"{name}.json"
            if not note.is_file():
                before = live.get().cut
                vectors = live.get().texts([embedded_text(chunk, recipe) for chunk in group])
                partial = artifact.scratch / "partial.npy"
                np.save(partial, vectors)
                partial.replace(kept)
                partial.write_text(json.dumps({"cut": live.get().cut - before}))
                partial.replace(note)  # last: its presence says that the vectors are whole
            found.append(np.load(kept, allow_pickle=False))
            cuts += json.loads(note.read_text())["cut"]
            advance(len(group))
    artifact.metrics["chunks_cut_by_embedder"] = cuts
    if cuts:
        ui.warn(
            f"{cuts} of {len(chunks)} chunks are longer than the embedding model reads; "
            "their ends cannot be found: make chunks shorter"
        )
    return np.concatenate(found)


class Lazy:
    """An embedder that is loaded at its first use: a run with nothing left to embed needs none."""

    def __init__(self, recipe: IngestRecipe) -> None:
        from contextlib import ExitStack

        self.recipe, self.stack, self.live = recipe, ExitStack(), None

    def __enter__(self) -> Lazy:
        return self

    def __exit__(self, *error: object) -> None:
        self.stack.close()

    def get(self) -> Any:
        """The loaded embedder."""
        if self.live is None:
            self.live = self.stack.enter_context(self.recipe.embedder.open())  # type: ignore[assignment]
        return self.live


def _emptied(folder: Path) -> None:
    """A store that was half written by a killed run is begun again; the vectors are kept."""
    import shutil

    shutil.rmtree(folder)
    folder.mkdir()


def _wanted(recipe: IngestRecipe) -> str:
    patterns = ", ".join(pattern for reader in recipe.readers for pattern in reader.patterns)
    return f"the recipe's readers take {patterns}"


def _tell(artifact: Artifact, dropped: list[dict[str, Any]]) -> None:
    metrics = artifact.metrics
    artifact.summary += [
        ("documents", f"{metrics['documents']}, {len(dropped)} left out"),
        ("chunks", f"{metrics['chunks']} of {metrics['characters']} characters"),
        ("vectors", f"{metrics['dimensions']} dimensions"),
    ]
    if dropped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(artifact.dropped.items()))
        ui.warn(f"{len(dropped)} documents were left out ({reasons}), see dropped.jsonl")
