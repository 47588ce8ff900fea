"""A stand-in for a Qdrant server: the endpoints that the store uses, over Qdrant's own engine.

No package of ours brings the server's program. This process speaks its HTTP interface with real
requests of qdrant-client, and keeps and finds points with Qdrant Edge, which is the engine inside
the server. It is no proof of what a server does under load, in a cluster or on a full disk.

    python qdrant_server.py PORT FOLDER [KEY]
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Lock
from typing import Any

import qdrant_edge as edge

ROUTES: list[tuple[str, str, str]] = [
    ("GET", r"/collections", "collections"),
    ("GET", r"/collections/([\w-]+)/exists", "exists"),
    ("PUT", r"/collections/([\w-]+)", "create"),
    ("DELETE", r"/collections/([\w-]+)", "drop"),
    ("PUT", r"/collections/([\w-]+)/points", "upsert"),
    ("POST", r"/collections/([\w-]+)/points", "retrieve"),
    ("POST", r"/collections/([\w-]+)/points/query", "query"),
]


class Collections:
    """A shard for each collection."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.shards, self.lock = folder, {}, Lock()

    def collections(self, body: Any) -> Any:
        return {"collections": [{"name": name} for name in self.shards]}

    def exists(self, body: Any, name: str) -> Any:
        return {"exists": name in self.shards}

    def create(self, body: Any, name: str) -> Any:
        (self.folder / name).mkdir()
        distance = getattr(edge.Distance, body["vectors"]["distance"])
        vectors = edge.EdgeVectorParams(size=body["vectors"]["size"], distance=distance)
        self.shards[name] = edge.EdgeShard.create(
            str(self.folder / name), edge.EdgeConfig(vectors=vectors)
        )
        return True

    def drop(self, body: Any, name: str) -> Any:
        self.shards.pop(name).close()
        shutil.rmtree(self.folder / name)
        return True

    def upsert(self, body: Any, name: str) -> Any:
        points = [
            edge.Point(id=uuid.UUID(p["id"]), vector=p["vector"], payload=p["payload"])
            for p in body["points"]
        ]
        self.shards[name].update(edge.UpdateOperation.upsert_points(points))
        return {"operation_id": 0, "status": "completed"}

    def retrieve(self, body: Any, name: str) -> Any:
        ids = [uuid.UUID(each) for each in body["ids"]]
        found = self.shards[name].retrieve(ids, with_vector=True, with_payload=True)
        return [{"id": str(p.id), "vector": p.vector, "payload": p.payload} for p in found]

    def query(self, body: Any, name: str) -> Any:
        vector = body["query"]
        vector = vector["nearest"] if isinstance(vector, dict) else vector
        only = None
        if body.get("filter"):
            [condition] = body["filter"]["must"]
            ids = {uuid.UUID(each) for each in condition["has_id"]}
            only = edge.Filter(must=[edge.HasIdCondition(ids)])
        found = self.shards[name].query(
            edge.QueryRequest(
                query=edge.Query.Nearest(vector), limit=body["limit"], filter=only,
                with_payload=True,
            )
        )  # fmt: skip
        points = [
            {"id": str(p.id), "version": p.version, "score": p.score, "payload": p.payload}
            for p in found
        ]
        return {"points": points}


def serve(port: int, folder: Path, key: str) -> None:
    """Answer until killed."""
    held = Collections(folder)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            length = int(self.headers.get("content-length") or 0)
            body = json.loads(self.rfile.read(length) or b"null")
            if key and self.headers.get("api-key") != key:
                return self.send(401, {"status": {"error": "Must provide an API key"}})
            path = self.path.partition("?")[0]
            for method, pattern, name in ROUTES:
                match = re.fullmatch(pattern, path)
                if method == self.command and match:
                    known = not match.groups() or match[1] in held.shards
                    if not known and name not in ("exists", "create"):
                        return self.send(404, {"status": {"error": "Collection doesn't exist!"}})
                    with held.lock:
                        found = getattr(held, name)(body, *match.groups())
                    return self.send(200, {"result": found, "status": "ok", "time": 0.0})
            return self.send(404, {"status": {"error": "no such endpoint"}})

        do_GET = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

        def send(self, status: int, body: Any) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), Path(sys.argv[2]), (sys.argv[3:] or [""])[0])
