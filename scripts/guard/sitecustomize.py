"""A socket guard: put this folder on PYTHONPATH and only loopback can be reached.

Python imports `sitecustomize` in every process that inherits the path, children included. Each
process writes one `active` line to the file that LLMCTL_GUARD_LOG names, and one `refused` line
for each attempt to reach anything else. It guards Python's sockets, which is what the libraries of
the chain use for HTTP; it is a check on them, not a wall against native code.
"""

from __future__ import annotations

import ipaddress
import os
import socket
from typing import Any

NAMES = ("localhost", "localhost.localdomain", "ip6-localhost", "")


class RefusedError(OSError):
    """Something other than loopback was asked for."""


def _note(line: str) -> None:
    path = os.environ.get("LLMCTL_GUARD_LOG")
    if path:
        # one short O_APPEND write: processes do not mix their lines
        with open(path, "a", encoding="utf-8") as log:
            log.write(f"{line} {os.getpid()}\n")


def is_loopback(host: Any) -> bool:
    """Whether a host name or address stays on this machine."""
    if host is None:
        return True
    if isinstance(host, bytes):
        host = host.decode("ascii", "replace")
    host = str(host).partition("%")[0].strip("[]").lower()
    if host in NAMES:
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


def check(host: Any) -> None:
    """Raise when a host is not loopback."""
    if not is_loopback(host):
        _note(f"refused {str(host)[:200]!r}")
        raise RefusedError(f"the demo allows loopback only; refused: {host}")


def install() -> None:
    """Wrap the calls of `socket` through which a process reaches another host."""
    plain = socket.socket

    class Guarded(plain):  # type: ignore[misc, valid-type]
        """A socket that connects and sends to loopback only."""

        def connect(self, address: Any) -> None:
            self._check(address)
            super().connect(address)

        def connect_ex(self, address: Any) -> int:
            self._check(address)
            return int(super().connect_ex(address))

        def sendto(self, data: Any, *rest: Any) -> int:
            self._check(rest[-1])
            return int(super().sendto(data, *rest))

        def _check(self, address: Any) -> None:
            if self.family in (socket.AF_INET, socket.AF_INET6) and isinstance(address, tuple):
                check(address[0])

    socket.socket = Guarded  # type: ignore[misc]
    for name in ("getaddrinfo", "gethostbyname", "gethostbyname_ex"):
        setattr(socket, name, _guarded_lookup(getattr(socket, name)))
    _note("active")


def _guarded_lookup(lookup: Any) -> Any:
    def guarded(host: Any, *args: Any, **kwargs: Any) -> Any:
        # a server asks for its own name; any other name would need a resolver
        if host not in (socket.gethostname(),):
            check(host)
        return lookup(host, *args, **kwargs)

    return guarded


install()
