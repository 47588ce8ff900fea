"""A Qdrant server, asked over HTTP: one collection for each snapshot."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.rag.stores import _server
from llmctl.rag.stores._points import KEY, point_of
from llmctl.rag.stores.base import Near, Store
from llmctl.schema.parts import Variable

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.collection import Snapshot

AT_ONCE = 256
"""A server takes 32 MB at once by default: texts and vectors of so many chunks are less."""


class Opened:
    """One collection."""

    def __init__(self, client: Any, collection: str) -> None:
        self._client, self._collection = client, collection

    def near(
        self, vector: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k nearest by cosine."""
        from qdrant_client import models

        if k < 1 or (allowed is not None and not allowed):
            return []
        only = None
        if allowed is not None:
            points: list[Any] = [str(point_of(each)) for each in allowed]
            only = models.Filter(must=[models.HasIdCondition(has_id=points)])
        found = self._client.query_points(
            self._collection,
            query=vector.tolist(),
            query_filter=only,
            limit=k,
            with_payload=[KEY],
        )
        near = (Near(each.payload[KEY], round(each.score, 6)) for each in found.points)
        # equal scores come in the order of the id, so that the answer does not depend on the graph
        return sorted(near, key=lambda each: (-each.score, each.id))

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """Qdrant gives the points in an order of its own."""
        import numpy as np

        points = self._client.retrieve(
            self._collection,
            [str(point_of(each)) for each in ids],
            with_payload=False,
            with_vectors=True,
        )
        place = {str(each.id): each.vector for each in points}
        return np.asarray([place[str(point_of(each))] for each in ids], dtype=np.float32)


class QdrantHttpStore(Store):
    """Vectors, texts and places of the chunks on a server that others can ask, too."""

    needs: ClassVar[dict[str, str]] = {"qdrant-client": "qdrant"}

    url: str = Field(
        "http://localhost:6333", pattern=r"^https?://", description="Address of the server."
    )
    api_key_env: Variable | None = Field(
        None, description="Environment variable with the key that the server wants."
    )
    timeout: int = Field(60, ge=1, description="Seconds until a call is given up.")
    prefix: str = Field(
        "llmctl",
        pattern=_server.PREFIX,
        description="Begins the names of the collections.",
    )

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A connection; a server that does not answer, or that refuses, is one line."""
        from qdrant_client import QdrantClient
        from qdrant_client.http.exceptions import ApiException

        key = _server.secret("api_key_env", self.api_key_env)
        with _quiet():
            client = QdrantClient(
                url=self.url,
                # without a port in the address the client would take 6333, also for https
                port=None,
                api_key=key,
                timeout=self.timeout,
                check_compatibility=False,  # it warns on stderr; what fails is told below
            )
        try:
            yield client
        except ApiException as error:
            raise _server.unusable("Qdrant", self.url, error) from None
        finally:
            client.close()

    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """A new collection with every chunk."""
        from qdrant_client import models

        name = _server.fresh(self.prefix, snapshot.owner)
        with self.client() as client:
            client.create_collection(
                name,
                vectors_config=models.VectorParams(
                    size=int(snapshot.vectors.shape[1]), distance=models.Distance.COSINE
                ),
            )
            for chunks, vectors in snapshot.blocks(AT_ONCE):
                points = [
                    models.PointStruct(
                        id=str(point_of(c["id"])),
                        vector=row,
                        payload={
                            KEY: c["id"], "text": c["text"], "uri": c["source"]["uri"],
                            "start": c["start"], "end": c["end"],
                        },
                    )
                    for c, row in zip(chunks, vectors.tolist(), strict=True)
                ]  # fmt: skip
                client.upsert(name, points, wait=True)
                told(len(chunks))
        _server.name_it(folder, name)

    @contextmanager
    def open(self, folder: Path) -> Iterator[Opened]:
        """The collection that the folder names."""
        name = _server.named(folder)
        with self.client() as client:
            if not client.collection_exists(name):
                raise _server.gone(folder, name)
            yield Opened(client, name)

    def sweep(self, folder: Path, owner: str) -> None:
        """Delete the collections of this owner that the folder does not name."""
        with self.client() as client:
            names = [each.name for each in client.get_collections().collections]
            for each in _server.left_over(folder, self.prefix, owner, names):
                client.delete_collection(each)


@contextmanager
def _quiet() -> Iterator[None]:
    """The client warns about a key over plain http, which is right for a server on this machine."""
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
