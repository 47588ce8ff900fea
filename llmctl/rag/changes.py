"""What differs between an ingest artifact and the one before it: documents, chunks, and why."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmctl import artifact as artifacts
from llmctl.artifact import Artifact
from llmctl.rag.collection import CHUNKS, FILES, UNITS, Kept
from llmctl.rag.cutting import embedded_text
from llmctl.rag.filling import text_mark
from llmctl.schema.ingest import IngestRecipe

ELSEWHERE = ("source", "out", "seed", "version", "store", "keywords")
"""Keys that do not decide what the rows of a unit are."""
DOCUMENTS = FILES.index("documents")


@dataclass
class Before:
    """A snapshot whose rows can be taken over, and whether its indexes can be, too."""

    kept: Kept
    store: bool
    keywords: bool


@dataclass
class Changes:
    """Counted documents, and the chunks that an index has to forget and to learn."""

    documents: dict[str, int] = field(
        default_factory=lambda: dict.fromkeys(("added", "changed", "removed", "unchanged"), 0)
    )
    removed: list[str] = field(default_factory=list)
    added: array[int] = field(default_factory=lambda: array("q"))


def before(recipe: IngestRecipe, artifact: Artifact) -> Before | None:
    """The artifact in `out` when its rows are what this recipe would make of the same units."""
    if artifact.forced:
        return None
    manifest = artifacts.read_manifest(recipe.out)
    if manifest is None or manifest["stage"] != "ingest":
        return None
    parts, now, then = manifest["key_parts"], recipe.dump(), manifest["recipe"]
    own = set(recipe.store.needs)
    same = (
        parts["impl"] == recipe.impl
        and parts["device"] == artifact.key_parts.get("device")
        and all(now.get(key) == then.get(key) for key in {*now, *then} if key not in ELSEWHERE)
        and _without(parts["packages"], own) == _without(artifact.key_parts["packages"], own)
        and _models(parts["inputs"]) == _models(artifact.key_parts["inputs"])
        and artifacts.changed_output(recipe.out, manifest) is None
    )
    if not same or not (recipe.out / UNITS).is_file():
        return None
    packages = parts["packages"] == artifact.key_parts["packages"]
    return Before(
        Kept(recipe.out),
        store=packages and now["store"] == then["store"],
        keywords=packages and now["keywords"] == then["keywords"],
    )


def _without(packages: dict[str, str], names: set[str]) -> dict[str, str]:
    return {name: version for name, version in packages.items() if name not in names}


def _models(inputs: dict[str, str]) -> dict[str, str]:
    return {key: sha for key, sha in inputs.items() if key.partition(".")[0] != "source"}


def compared(recipe: IngestRecipe, folder: Path, old: Kept | None) -> Changes:
    """What is other in `folder` than in `old`; without `old` everything is new."""
    new, found = Kept(folder), Changes()
    counts: Counter[str] = Counter()
    for uri, (first, last) in new.unit.items():
        documents = new.rows[DOCUMENTS][last] - new.rows[DOCUMENTS][first]
        if old is None or uri not in old.unit:
            counts["added"] += documents
            found.added.extend(range(new.rows[CHUNKS][first], new.rows[CHUNKS][last]))
        elif _digest(new, (first, last)) in {_digest(old, old.unit[uri])} - {""}:
            counts["unchanged"] += documents
        else:
            _compare(recipe, (old, *old.unit[uri]), (new, first, last), counts, found)
    for uri, (first, last) in old.unit.items() if old is not None else ():
        if old is not None and uri not in new.unit:
            counts["removed"] += old.rows[DOCUMENTS][last] - old.rows[DOCUMENTS][first]
            found.removed += [row["id"] for row in old.read("chunks", first, last)]
    found.documents |= counts
    return found


def _digest(kept: Kept, parts: tuple[int, int]) -> str:
    row = next(kept.parts(parts[1] - 1, parts[1]))
    # what could not be read is tried again on every run
    return "" if row["error"] else str(row["digest"])


def _compare(
    recipe: IngestRecipe,
    before: tuple[Kept, int, int],
    after: tuple[Kept, int, int],
    counts: Counter[str],
    found: Changes,
) -> None:
    """One unit that is other than it was: its documents and its chunks, one by one."""
    (old, *olds), (new, *news) = before, after
    was = {row["uri"]: row["id"] for row in old.read("documents", *olds)}
    now = {row["uri"]: row["id"] for row in new.read("documents", *news)}
    counts["removed"] += len(was.keys() - now.keys())
    for uri, key in now.items():
        same = was.get(uri) == key
        counts["unchanged" if same else "changed" if uri in was else "added"] += 1

    def marks(kept: Kept, parts: list[int]) -> dict[str, bytes]:
        rows: Any = kept.read("chunks", *parts)
        return {row["id"]: text_mark(embedded_text(row, recipe)) for row in rows}

    had = marks(old, olds)
    for place, (key, mark) in enumerate(marks(new, news).items(), new.rows[CHUNKS][news[0]]):
        if had.get(key) != mark:
            found.added.append(place)
        else:
            del had[key]
    found.removed += had
