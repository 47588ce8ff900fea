"""A real server of OpenAI's embeddings in a process of its own, around an embedder of llmctl.

    python embedding_server.py PORT KIND [KEY]

`GET /calls` tells what was asked. `POST /trouble` with {"statuses": [429, 500]} makes the next
calls fail in that order, and with {"kind": KIND} another model answers under the same name.
"""

from __future__ import annotations

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from llmctl.rag.embedders.base import Embedder


def serve(port: int, kind: str, key: str) -> None:
    """Answer until killed."""
    live = Embedder.of(kind).open().__enter__()
    lock, calls, trouble = Lock(), [], []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send(200, calls)

        def do_POST(self) -> None:
            nonlocal live
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            with lock:
                if self.path == "/trouble":
                    trouble.extend(body.get("statuses", ()))
                    if "kind" in body:
                        live = Embedder.of(body["kind"]).open().__enter__()
                    return self.send(200, {})
                calls.append({k: v for k, v in body.items() if k != "input"} | {
                    "texts": body["input"], "key": self.headers.get("authorization"),
                })  # fmt: skip
                if key and self.headers.get("authorization") != f"Bearer {key}":
                    return self.send(401, {"error": {"message": "wrong key"}})
                if trouble:
                    status = trouble.pop(0)
                    return self.send(status, {"error": {"message": "busy"}}, {"retry-after": "0"})
                # three times as long as a unit vector, and in reverse order: clients must cope
                vectors = 3 * live.texts(body["input"])[:, : body.get("dimensions")]
                data = [
                    {"object": "embedding", "index": i, "embedding": row}
                    for i, row in enumerate(vectors.tolist())
                ]
                return self.send(200, {"object": "list", "data": data[::-1]})

        def send(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2], (sys.argv[3:] or [""])[0])
