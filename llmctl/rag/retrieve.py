"""query -> hits: the artifact's own embedder and store, and refusal when they are not the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from llmctl import artifact as artifacts
from llmctl import rows
from llmctl.errors import InputError, MissingError, install_hint
from llmctl.rag.embedders.base import Embedder, Live
from llmctl.rag.stores.base import Opened, Store

if TYPE_CHECKING:
    from llmctl.records import Chunk


class Hit(TypedDict):
    """A chunk that answers a question; `score` is the cosine, from -1 to 1."""

    id: str
    score: float
    text: str
    source: dict[str, Any]
    title: str
    meta: dict[str, Any]


@dataclass(frozen=True)
class Retriever:
    """A loaded artifact: ask it as often as you like."""

    chunks: dict[str, Chunk]
    embedder: Live
    store: Opened

    def ask(self, query: str, k: int = 5) -> list[Hit]:
        """The k chunks nearest in meaning, nearest first."""
        if not query.strip():
            raise InputError("the query is empty; say what to look for")
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one hit")
        return [self._hit(*near) for near in self.store.near(self.embedder.query(query), k)]

    def _hit(self, key: str, score: float) -> Hit:
        chunk = self.chunks[key]
        return {
            "id": key,
            "score": score,
            "text": chunk["text"],
            "source": chunk["source"],
            "title": chunk["meta"]["title"],
            "meta": chunk["meta"],
        }


@contextmanager
def opened(folder: Path) -> Iterator[Retriever]:
    """Open what `llmctl ingest` wrote; a changed file or another embedding model is refused."""
    manifest = checked(folder)
    recipe = manifest["recipe"]
    embedder, store = Embedder.of(recipe["embedder"]), Store.of(recipe["store"])
    _installed(embedder.needs | store.needs)
    chunks: dict[str, Any] = {row["id"]: row for row in rows.read(folder / "chunks.jsonl")}
    with embedder.open() as live, store.open(folder / "store") as found:
        if live.dimensions != manifest["metrics"]["dimensions"]:
            raise InputError(
                f"{folder}: its vectors have {manifest['metrics']['dimensions']} dimensions, "
                f"the embedder gives {live.dimensions}; run `llmctl ingest` again"
            )
        yield Retriever(chunks, live, found)


def checked(folder: Path) -> dict[str, Any]:
    """The manifest of an ingest artifact whose files and embedding model are as they were."""
    if not folder.is_dir():
        raise InputError(f"{folder}: is not there; make it with `llmctl ingest`")
    manifest = artifacts.read_manifest(folder)
    if manifest is None:
        raise InputError(f"{folder}: is not an artifact (no manifest.json); run `llmctl ingest`")
    if manifest["stage"] != "ingest":
        raise InputError(f"{folder}: was made by `{manifest['stage']}`; search needs `ingest`'s")
    wrong = artifacts.changed_output(folder, manifest)
    if wrong:
        raise InputError(f"{folder}: {wrong} after `llmctl ingest` made it; run that stage again")
    made = manifest["inputs"].get("embedder.model")
    if made is not None:
        now = artifacts.find_input("embedder.model", made["ref"], str(folder), fetch=True)
        if now.digest != made["sha256"]:
            raise InputError(
                f"{folder}: was embedded with {made['ref']} {made['sha256'][:12]}, what is there "
                f"now is {now.digest[:12]}; run `llmctl ingest` again"
            )
    return manifest


def _installed(needs: dict[str, str]) -> None:
    from importlib.metadata import PackageNotFoundError, version

    for name, extra in needs.items():
        try:
            version(name)
        except PackageNotFoundError:
            raise MissingError(f"search needs {name}: {install_hint(extra)}") from None
