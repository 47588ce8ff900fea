"""A Chroma server: one collection for each snapshot, named in the artifact's store folder.

The folder is switched by the artifact's rename, so a reader sees the old collection or the new
one, never half of one. What earlier and killed runs left is removed after the switch.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.errors import InputError, LlmctlError
from llmctl.rag.stores.base import Store
from llmctl.rag.stores.chroma import Opened

if TYPE_CHECKING:
    from llmctl.rag.collection import Snapshot

NAMED = "collection.json"
AT_ONCE = 500


class ChromaHttpStore(Store):
    """Vectors, texts and places of the chunks on a server that others can ask, too."""

    needs: ClassVar[dict[str, str]] = {"chromadb": "rag"}

    host: str = Field("localhost", description="Name or address of the server.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the server.")
    ssl: bool = Field(False, description="Whether the server is asked by https.")
    token_env: str | None = Field(
        None, description="Environment variable with the token that the server wants."
    )
    prefix: str = Field(
        "llmctl",
        pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_-]{0,60}$",
        description="Begins the names of the collections.",
    )

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A connection; a server that does not answer is one line."""
        import chromadb
        from chromadb.config import Settings

        headers = {}
        if self.token_env is not None:
            if self.token_env not in os.environ:
                raise InputError(f"store.token_env: {self.token_env} is not set")
            headers["Authorization"] = f"Bearer {os.environ[self.token_env]}"
        where = f"http{'s' if self.ssl else ''}://{self.host}:{self.port}"
        try:
            found = chromadb.HttpClient(
                self.host, self.port, self.ssl, headers, Settings(anonymized_telemetry=False)
            )
        except Exception as error:
            # httpx, Chroma and the socket each have errors of their own for this
            what = (str(error).splitlines() or [type(error).__name__])[0]
            raise LlmctlError(
                f"store: the Chroma server at {where} cannot be used: {what}"
            ) from None
        yield found

    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """A new collection with every chunk."""
        name = f"{self.prefix}-{snapshot.owner}-{uuid.uuid4().hex[:12]}"
        with self.client() as chroma:
            collection = chroma.create_collection(
                name, configuration={"hnsw": {"space": "cosine"}, "embedding_function": None}
            )
            for chunks, vectors in snapshot.blocks(AT_ONCE):
                collection.add(
                    ids=[chunk["id"] for chunk in chunks],
                    embeddings=vectors,
                    documents=[chunk["text"] for chunk in chunks],
                    metadatas=[
                        {"uri": c["source"]["uri"], "start": c["start"], "end": c["end"]}
                        for c in chunks
                    ],
                )
                told(len(chunks))
        (folder / NAMED).write_text(json.dumps({"collection": name}) + "\n")

    @contextmanager
    def open(self, folder: Path) -> Iterator[Opened]:
        """The collection that the folder names."""
        from chromadb.errors import NotFoundError

        name = json.loads((folder / NAMED).read_text())["collection"]
        with self.client() as chroma:
            try:
                collection = chroma.get_collection(name, embedding_function=None)
            except NotFoundError:
                raise InputError(
                    f"{folder}: the server has no collection {name} any more; run `llmctl ingest "
                    "--force`"
                ) from None
            yield Opened(collection)

    def sweep(self, folder: Path, owner: str) -> None:
        """Delete the collections of this owner that the folder does not name."""
        kept = json.loads((folder / NAMED).read_text())["collection"]
        with self.client() as chroma:
            for each in chroma.list_collections():
                if each.name.startswith(f"{self.prefix}-{owner}-") and each.name != kept:
                    chroma.delete_collection(each.name)
