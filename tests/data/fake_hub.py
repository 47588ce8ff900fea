"""A server that answers as the Hub does when a dataset is uploaded; it keeps what it was sent.

    python fake_hub.py FOLDER [STATUS]

Prints its address. With STATUS every request is answered with it, as for a wrong token.
"""

from __future__ import annotations

import base64
import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any


class Hub(BaseHTTPRequestHandler):
    folder: Path
    status = 200

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        token = self.headers.get("authorization", "")
        with (self.folder / "requests.jsonl").open("a") as file:
            file.write(json.dumps({"path": self.path, "token": token}) + "\n")
        if self.status != 200:
            self.answer({"error": "no"}, self.status)
        elif self.path == "/api/repos/create":
            (self.folder / "repo.json").write_bytes(body)
            self.answer({"url": f"http://{self.headers['host']}/datasets/me/set", "id": "me/set"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            self.answer({"files": [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in files
            ]})  # fmt: skip
        elif "/commit/" in self.path:
            for line in body.splitlines():
                each = json.loads(line)
                if each["key"] == "file":
                    path = self.folder / "files" / each["value"]["path"]
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(base64.b64decode(each["value"]["content"]))
            url = f"http://{self.headers['host']}/datasets/me/set/commit/abc"
            self.answer({"success": True, "commitOid": "abc", "commitUrl": url})
        else:
            self.answer({"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self.answer({"id": "me/set", "sha": "abc", "siblings": []}, self.status)

    def answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        """Nothing on stderr."""


if __name__ == "__main__":
    Hub.folder = Path(sys.argv[1])
    Hub.status = int(sys.argv[2]) if len(sys.argv) > 2 else 200
    server = HTTPServer(("127.0.0.1", 0), Hub)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
