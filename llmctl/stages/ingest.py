"""ingest: documents -> clean text -> chunks -> vectors -> a store that can be asked."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llmctl import rows, ui
from llmctl.artifact import Artifact
from llmctl.errors import EmptyError
from llmctl.rag import changes, filling, keywords, vectors
from llmctl.rag.cleaners.base import counted
from llmctl.rag.collection import FILES, UNITS, Snapshot
from llmctl.rag.cutting import embedded_text
from llmctl.rag.metadata import Described, unfitting
from llmctl.records import row_id
from llmctl.schema.ingest import IngestRecipe


def run(recipe: IngestRecipe, artifact: Artifact) -> None:
    """Write the rows (FILES, units.jsonl), vectors.npy, metadata.json, store/ and keywords/.

    Units that are as they were in the artifact before are taken over from it; see
    `llmctl.rag.collection`. Memory does not grow with the number of documents.
    """
    before = changes.before(recipe, artifact)
    old = before.kept if before else None
    if artifact.forced:
        filling.anew(artifact.folder, artifact.scratch)
    with ui.progress("chunks") as advance:
        filling.fill(recipe, artifact.folder, artifact.scratch / "source", old, advance)
    _count(recipe, artifact)
    found = changes.compared(recipe, artifact.folder, old)
    artifact.metrics |= {f"documents_{name}": n for name, n in found.documents.items()}

    out = str(artifact.folder.resolve()).removesuffix(".partial")
    snapshot = Snapshot(artifact.folder, row_id(out)[:8])
    if before and before.store:
        snapshot.old, snapshot.removed, snapshot.added = recipe.out, found.removed, found.added
    with ui.progress("store", snapshot.rows) as advance:
        _emptied(artifact.folder / "store")
        recipe.store.write(artifact.folder / "store", snapshot, advance)
    artifact.published.append(lambda: recipe.store.sweep(recipe.out / "store", snapshot.owner))
    _describe(recipe, artifact)
    _index(recipe, artifact, snapshot, before is not None and before.keywords, found)
    artifact.determinism = "seeded"  # the rows are the same bytes, the store's ids are not
    _tell(artifact)


def _count(recipe: IngestRecipe, artifact: Artifact) -> None:
    """Sum up units.jsonl; an artifact in which nothing can be found is an error."""
    folder, removed = artifact.folder, Counter[str]()
    numbers, cuts, characters, units = [0] * len(FILES), 0, 0, 0
    for row in rows.read(folder / UNITS):
        numbers = [n + each for n, each in zip(numbers, row["rows"], strict=True)]
        cuts, characters, units = cuts + len(row["cut"]), characters + row["characters"], units + 1
        removed.update(row["removed"])
    artifact.rows |= {f"{name}.jsonl": n for name, n in zip(FILES, numbers, strict=True)}
    artifact.rows[UNITS] = units
    documents, chunks, parents, dropped = numbers
    artifact.dropped.update(row["reason"] for row in rows.read(folder / "dropped.jsonl"))
    if not documents:
        raise EmptyError(f"{recipe.source.label()}: {_nothing(recipe, artifact, dropped)}")
    if not chunks:
        raise EmptyError(f"{recipe.source.label()}: no text is left to cut; check `cleaners`")
    if not parents:
        (folder / "parents.jsonl").unlink()
        del artifact.rows["parents.jsonl"]
    artifact.metrics |= {
        "documents": documents,
        "chunks": chunks,
        "characters": characters,
        **counted(recipe.cleaners, removed),
        "chunks_cut_by_embedder": cuts,
        "dimensions": int(vectors.mapped(folder / vectors.NAME).shape[1]),
    }
    if cuts:
        ui.warn(
            f"{cuts} of {chunks} chunks are longer than the embedding model reads; their ends are "
            "found by their words alone: lower max_chars, or count the model's tokens "
            "(chunker: recursive, unit: tokens)"
        )


def _describe(recipe: IngestRecipe, artifact: Artifact) -> None:
    described = Described(recipe.metadata.types)
    for chunk in rows.read(artifact.folder / "chunks.jsonl"):
        described.add(chunk)  # type: ignore[arg-type]
    artifact.write_json("metadata.json", described.row())
    if recipe.metadata.tags or recipe.metadata.external_id:
        documents: Any = rows.read(artifact.folder / "documents.jsonl")
        for each in unfitting(recipe.metadata, documents):
            ui.warn(each)


def _index(
    recipe: IngestRecipe,
    artifact: Artifact,
    snapshot: Snapshot,
    same: bool,
    found: changes.Changes,
) -> None:
    """The keyword index: from the one before when little has changed, else anew."""
    folder = artifact.path("keywords/x").parent
    _emptied(folder)

    def texts(only: Any = None) -> Iterator[tuple[str, str]]:
        for chunks, _ in snapshot.blocks(1000, only):
            for chunk in chunks:
                yield chunk["id"], embedded_text(chunk, recipe)  # type: ignore[arg-type]

    if not same:
        keywords.build(folder, texts(), recipe.keywords)
    elif not found.removed and not found.added:
        shutil.copytree(recipe.out / "keywords", folder, dirs_exist_ok=True)
    elif len(found.removed) + len(found.added) < snapshot.rows / 2:
        keywords.update(folder, recipe.out / "keywords", found.removed, lambda: texts(found.added))
    else:
        keywords.build(folder, texts(), recipe.keywords)


def _emptied(folder: Path) -> None:
    """An index that was half written by a killed run is begun again; the vectors are kept."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def _nothing(recipe: IngestRecipe, artifact: Artifact, dropped: int) -> str:
    """Why there is no document, with what would be needed."""
    patterns = ", ".join(pattern for reader in recipe.readers for pattern in reader.patterns)
    wanted = f"the recipe's readers take {patterns}"
    if not dropped:
        return f"holds no documents; {wanted}"
    reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(artifact.dropped.items()))
    told = f"none of its {dropped} documents can be used ({reasons})"
    if artifact.dropped["no_reader"]:
        return f"{told}; {wanted}"
    first = next(rows.read(artifact.folder / "dropped.jsonl"))
    return f"{told}, such as {first['uri']}: {first['detail']}"


def _tell(artifact: Artifact) -> None:
    metrics, dropped = artifact.metrics, artifact.dropped.total()
    words = ("added", "changed", "removed", "unchanged")
    moved = ", ".join(f"{metrics[f'documents_{word}']} {word}" for word in words)
    artifact.summary += [
        ("documents", f"{metrics['documents']}, {dropped} left out"),
        ("since the last run", moved),
        ("chunks", f"{metrics['chunks']} of {metrics['characters']} characters"),
        ("vectors", f"{metrics['dimensions']} dimensions"),
    ]
    if dropped:
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(artifact.dropped.items()))
        some = "1 document was" if dropped == 1 else f"{dropped} documents were"
        ui.warn(f"{some} left out ({reasons}), see dropped.jsonl")
