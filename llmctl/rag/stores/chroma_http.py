"""A Chroma server: one collection for each snapshot."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.rag.stores import _server
from llmctl.rag.stores.base import Store
from llmctl.rag.stores.chroma import Opened
from llmctl.schema.parts import Variable

if TYPE_CHECKING:
    from llmctl.rag.collection import Snapshot

AT_ONCE = 500


class ChromaHttpStore(Store):
    """Vectors, texts and places of the chunks on a server that others can ask, too."""

    needs: ClassVar[dict[str, str]] = {"chromadb": "rag"}

    host: str = Field("localhost", description="Name or address of the server.")
    port: int = Field(8000, ge=1, le=65535, description="Port of the server.")
    ssl: bool = Field(False, description="Whether the server is asked by https.")
    token_env: Variable | None = Field(
        None, description="Environment variable with the token that the server wants."
    )
    prefix: str = Field(
        "llmctl",
        pattern=_server.PREFIX,
        description="Begins the names of the collections.",
    )

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A connection; a server that does not answer is one line."""
        import chromadb
        from chromadb.config import Settings

        token = _server.secret("token_env", self.token_env)
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        where = f"http{'s' if self.ssl else ''}://{self.host}:{self.port}"
        try:
            found = chromadb.HttpClient(
                self.host, self.port, self.ssl, headers, Settings(anonymized_telemetry=False)
            )
        except Exception as error:
            # httpx, Chroma and the socket each have errors of their own for this
            raise _server.unusable("Chroma", where, error) from None
        yield found

    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """A new collection with every chunk."""
        name = _server.fresh(self.prefix, snapshot.owner)
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
        _server.name_it(folder, name)

    @contextmanager
    def open(self, folder: Path) -> Iterator[Opened]:
        """The collection that the folder names."""
        from chromadb.errors import NotFoundError

        name = _server.named(folder)
        with self.client() as chroma:
            try:
                collection = chroma.get_collection(name, embedding_function=None)
            except NotFoundError:
                raise _server.gone(folder, name) from None
            yield Opened(collection)

    def sweep(self, folder: Path, owner: str) -> None:
        """Delete the collections of this owner that the folder does not name."""
        with self.client() as chroma:
            names = [each.name for each in chroma.list_collections()]
            for each in _server.left_over(folder, self.prefix, owner, names):
                chroma.delete_collection(each)
