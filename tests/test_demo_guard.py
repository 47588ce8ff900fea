"""The demo's socket guard: loopback works, anything else is refused, in children too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).parent.parent / "scripts" / "guard"


def guarded(code: str, log: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(GUARD), "LLMCTL_GUARD_LOG": str(log)}
    return subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60
    )


# 192.0.2.0/24 and 2001:db8::/32 are reserved for documentation: nothing answers there.
@pytest.mark.parametrize(
    "attempt",
    [
        "socket.create_connection(('192.0.2.1', 80), 1)",
        "socket.create_connection(('example.invalid', 80), 1)",
        "socket.socket().connect(('192.0.2.1', 443))",
        "socket.socket().connect_ex(('192.0.2.1', 443))",
        "socket.socket(socket.AF_INET6).connect(('2001:db8::1', 443))",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
        "socket.getaddrinfo('example.invalid', 80)",
        "socket.gethostbyname('example.invalid')",
        "__import__('urllib.request').request.urlopen('http://192.0.2.1/', timeout=1)",
    ],
)
def test_everything_but_loopback_is_refused(attempt: str, tmp_path: Path) -> None:
    log = tmp_path / "guard.log"
    done = guarded(f"import socket\n{attempt}", log)
    assert done.returncode == 1
    assert "the demo allows loopback only" in done.stderr
    assert "refused" in log.read_text()


def test_loopback_works(tmp_path: Path) -> None:
    code = """
import socket
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(("localhost", server.getsockname()[1]), 5)
peer, _ = server.accept()
client.sendall(b"hello")
assert peer.recv(5) == b"hello"
"""
    log = tmp_path / "guard.log"
    done = guarded(code, log)
    assert done.returncode == 0, done.stderr
    assert "active" in log.read_text()
    assert "refused" not in log.read_text()


def test_children_are_guarded(tmp_path: Path) -> None:
    child = "import socket; socket.create_connection(('192.0.2.1', 80), 1)"
    code = f"import subprocess, sys; sys.exit(subprocess.call([sys.executable, '-c', {child!r}]))"
    log = tmp_path / "guard.log"
    done = guarded(code, log)
    assert done.returncode == 1
    assert log.read_text().count("active") == 2
    assert log.read_text().count("refused") == 1
