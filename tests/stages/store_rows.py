"""Where each key of a store lands."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest import mock


def hnsw(key: str) -> Any:
    """What Chroma is told of its graph."""
    return lambda built: built.store.settings()["hnsw"][key]


def asked(built: SimpleNamespace, client: str) -> SimpleNamespace:
    """What the client of a server is given, and the name of the collection."""
    import numpy as np

    from llmctl.rag.collection import Snapshot

    seen = SimpleNamespace()

    class Client:
        def __init__(self, *given: Any, **named: Any) -> None:
            seen.given, seen.named = given, named

        def create_collection(self, name: str, **rest: Any) -> None:
            seen.name = name

        def close(self) -> None:
            pass

    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        for patch in (
            mock.patch.dict(os.environ, {"LLMCTL_TEST_TOKEN": "t"}),
            mock.patch(client, Client),
            mock.patch.object(Snapshot, "blocks", return_value=iter(())),
            mock.patch.object(Snapshot, "vectors", np.zeros((1, 8))),
        ):
            stack.enter_context(patch)
        built.store.write(folder, Snapshot(folder, "owner"), lambda n: None)
    return seen


def chroma(built: SimpleNamespace) -> SimpleNamespace:
    return asked(built, "chromadb.HttpClient")


def qdrant(built: SimpleNamespace) -> SimpleNamespace:
    return asked(built, "qdrant_client.QdrantClient")


def edge(key: str) -> Any:
    """What Qdrant's engine is told of its graph."""
    return lambda built: getattr(built.store.settings(8).hnsw_config, key)


def searched(built: SimpleNamespace) -> int:
    """How many candidates Qdrant looks at for a question."""
    import numpy as np

    from llmctl.rag.stores.qdrant import Opened

    shard = mock.Mock(query=mock.Mock(return_value=[]))
    Opened(shard, built.store.ef_search).near(np.zeros(8), 5)
    return int(shard.query.call_args.args[0].params.hnsw_ef)


ROWS: dict[str, Any] = {
    "store[chroma].max_neighbors": (8, hnsw("max_neighbors")),
    "store[chroma].ef_construction": (50, hnsw("ef_construction")),
    "store[chroma].ef_search": (50, hnsw("ef_search")),
    "store[chroma_http].host": ("other", lambda built: chroma(built).given[0]),
    "store[chroma_http].port": (9000, lambda built: chroma(built).given[1]),
    "store[chroma_http].ssl": (True, lambda built: chroma(built).given[2]),
    "store[chroma_http].token_env": (
        "LLMCTL_TEST_TOKEN", lambda built: chroma(built).given[3], {"Authorization": "Bearer t"}
    ),
    "store[chroma_http].prefix": ("shop", lambda built: chroma(built).name.split("-")[0]),
    "store[qdrant].max_neighbors": (8, edge("m")),
    "store[qdrant].ef_construction": (50, edge("ef_construct")),
    "store[qdrant].index_from": (3200, edge("full_scan_threshold"), 100),
    "store[qdrant].ef_search": (50, searched),
    "store[qdrant_http].url": ("https://other", lambda built: qdrant(built).named["url"]),
    "store[qdrant_http].api_key_env": (
        "LLMCTL_TEST_TOKEN", lambda built: qdrant(built).named["api_key"], "t"
    ),
    "store[qdrant_http].timeout": (5, lambda built: qdrant(built).named["timeout"]),
    "store[qdrant_http].prefix": ("shop", lambda built: qdrant(built).name.split("-")[0]),
}  # fmt: skip
