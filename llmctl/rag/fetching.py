"""Web pages, fetched politely and never from the network around this machine.

Each hop of a redirect is checked: its scheme, robots.txt, and every address that its name has. The
connection then goes to an address that was checked, so a name that changes between is no way in.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import mimetypes
import os
import socket
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

from llmctl.errors import InputError
from llmctl.rag import robots
from llmctl.rag.readers.base import Unreadable

if TYPE_CHECKING:
    import ssl

    import httpx

REDIRECTS = 5
RETRIES = 2
LONGEST_WAIT = 30.0
"""Seconds that a server may ask to wait, in robots.txt or Retry-After."""
KNOWN = {
    "text/html": ".html", "application/xhtml+xml": ".html", "application/pdf": ".pdf",
    "text/markdown": ".md", "text/csv": ".csv", "application/json": ".json",
    "application/x-ndjson": ".jsonl", "application/epub+zip": ".epub", "text/x-rst": ".rst",
    "message/rfc822": ".eml",
}  # fmt: skip
VAGUE = ("", "text/plain", "application/octet-stream", "binary/octet-stream", "application/zip")
"""Types that say less than the name in the URL."""


@dataclass(frozen=True)
class Page:
    """A fetched page: its bytes in a file whose name ends as its type asks."""

    url: str
    path: Path
    modified: str = ""


@dataclass
class Fetcher:
    """What is allowed to be fetched, and how fast; pages are kept in `folder`.

    `delay` and `timeout` are seconds, between requests to one host and for a whole page.
    """

    folder: Path
    agent: str
    allow_private: bool = False
    delay: float = 1.0
    timeout: float = 30.0
    max_bytes: int = 20_000_000
    rules: dict[str, robots.Robots] = field(default_factory=dict)
    next_time: dict[str, float] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None

    def page(self, url: str) -> Page:
        """A page, from an interrupted run when that had it; raises Unreadable."""
        url = normal(url)
        folder = self.folder / hashlib.sha256(url.encode()).hexdigest()[:32]
        note = folder / "note"
        if note.is_file():
            kept = json.loads(note.read_text())
            return Page(kept["url"], folder / kept["name"], kept["modified"])
        final, headers, data = self._followed(url)
        kind, charset = _content_type(headers.get("content-type", ""))
        name = "page" + _suffix(kind, final)
        if kind.startswith("text/") and charset:
            data = _marked(data, charset)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        told = {"url": final, "name": name, "modified": headers.get("last-modified", "")}
        partial = folder / "partial"
        partial.write_text(json.dumps(told))
        partial.replace(note)  # last: its presence says that the page is whole
        return Page(final, folder / name, told["modified"])

    def _followed(self, url: str) -> tuple[str, dict[str, str], bytes]:
        """(url, headers, bytes) after redirects, each hop allowed by its robots.txt."""
        for _ in range(REDIRECTS + 1):
            rules = self._rules_of(url)
            if not rules.allows(url):
                raise Unreadable("robots", f"{url} is forbidden by its robots.txt")
            status, headers, data = self._polite(url, min(rules.delay, LONGEST_WAIT))
            if status in (301, 302, 303, 307, 308) and headers.get("location"):
                url = normal(urljoin(url, headers["location"]))
            elif status == 200:
                return url, headers, data
            else:
                raise Unreadable("http_status", f"{url} answered {status}")
        raise Unreadable("redirects", f"more than {REDIRECTS} redirects")

    def _rules_of(self, url: str) -> robots.Robots:
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(url))
        if origin not in self.rules:
            self.rules[origin] = self._robots(f"{origin}/robots.txt")
        return self.rules[origin]

    def _robots(self, url: str) -> robots.Robots:
        for _ in range(REDIRECTS + 1):
            try:
                status, headers, data = self._polite(url, 0)
            except Unreadable as error:
                if error.reason == "too_large":
                    return robots.Robots(allow=False)
                raise  # a host that is not there or not allowed: say that, not "robots"
            if status in (301, 302, 303, 307, 308) and headers.get("location"):
                url = normal(urljoin(url, headers["location"]))
                continue
            if status == 200:
                return robots.parse(data.decode("utf-8", "replace"), self.agent)
            # RFC 9309: nothing there forbids nothing, a broken server forbids everything
            return robots.Robots(allow=400 <= status < 500)
        return robots.Robots(allow=True)

    def _polite(self, url: str, delay: float) -> tuple[int, dict[str, str], bytes]:
        """One request at its host's pace; a busy server is asked again when it says so."""
        host = urlsplit(url).netloc
        for left in range(RETRIES, -1, -1):
            time.sleep(max(0.0, self.next_time.get(host, 0.0) - time.monotonic()))
            try:
                status, headers, data = self._get(url)
            finally:
                self.next_time[host] = time.monotonic() + max(delay, self.delay)
            wait = headers.get("retry-after", "1")
            if status in (429, 503) and left and wait.isdigit() and int(wait) <= LONGEST_WAIT:
                self.next_time[host] += int(wait)
                continue
            break
        return status, headers, data

    def _get(self, url: str) -> tuple[int, dict[str, str], bytes]:
        import httpx

        parts = urlsplit(url)
        host = parts.hostname or ""
        failed: Unreadable | None = None
        for address in self._addresses(host, parts.port or 0):
            try:
                return self._get_from(address, url)
            except httpx.ConnectError as error:
                failed = Unreadable("unreachable", f"{url}: {error}"[:200])
            except (httpx.HTTPError, httpx.InvalidURL, zlib.error, OSError) as error:
                what = str(error) or type(error).__name__
                raise Unreadable("unreachable", f"{url}: {what}"[:200]) from None
        raise failed or Unreadable("unreachable", f"{host} has no address")

    def _get_from(self, address: str, url: str) -> tuple[int, dict[str, str], bytes]:
        import httpx

        parts = urlsplit(url)
        shown = f"[{address}]" if ":" in address else address
        port = f":{parts.port}" if parts.port else ""
        target = parts._replace(netloc=f"{shown}{port}").geturl()
        headers = {"Host": parts.netloc, "User-Agent": self.agent, "Accept-Encoding": "gzip",
                   "Accept": "*/*"}  # fmt: skip
        limits = httpx.Limits(max_keepalive_connections=0)  # hosts share addresses, not names
        end = time.monotonic() + self.timeout
        if self.tls is None:
            self.tls = httpx.create_ssl_context()  # knows SSL_CERT_FILE, which the client may not
        with (
            httpx.Client(
                timeout=self.timeout, limits=limits, trust_env=False, verify=self.tls
            ) as client,
            client.stream(
                "GET", target, headers=headers, extensions={"sni_hostname": parts.hostname or ""}
            ) as reply,
        ):
            data = b"".join(self._body(reply, end))
            return reply.status_code, {k.lower(): v for k, v in reply.headers.items()}, data

    def _body(self, reply: httpx.Response, end: float) -> Iterator[bytes]:
        packed = reply.headers.get("content-encoding", "identity").lower()
        if packed not in ("identity", "gzip", "deflate"):
            raise Unreadable("http_encoding", f"an answer in the encoding {packed[:30]!r}")
        size = 0
        for part in reply.iter_bytes():
            size += len(part)
            if size > self.max_bytes:
                raise Unreadable("too_large", f"more than {self.max_bytes} bytes")
            if time.monotonic() > end:
                raise Unreadable("too_slow", f"not whole after {self.timeout:g} s")
            yield part

    def _addresses(self, host: str, port: int) -> list[str]:
        """The addresses of a host, when all of them may be reached."""
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unreadable("unreachable", f"no address of {host}: {error}"[:200]) from None
        addresses = list(dict.fromkeys(str(each[4][0]) for each in found))
        for address in addresses:
            if not self.allow_private and not is_public(address):
                raise Unreadable(
                    "private_address", f"{host} is {address}; allow_private: true permits it"
                )
        return addresses


def is_public(address: str) -> bool:
    """Whether an address is one of the open internet, also when it is wrapped in another one."""
    try:
        found: Any = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    inner = [found]
    if isinstance(found, ipaddress.IPv6Address):
        wrapped = [found.ipv4_mapped, found.sixtofour, *(found.teredo or ())]
        if found in ipaddress.ip_network("64:ff9b::/96") or int(found) < 2**32:
            wrapped.append(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF))
        inner = [each for each in wrapped if each is not None] or [found]
    return all(each.is_global and not each.is_multicast for each in inner)


def normal(url: str) -> str:
    """The URL without its fragment; raises Unreadable when it is none that is fetched."""
    url = urldefrag(url.strip())[0]
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise Unreadable("bad_url", f"{url[:100]}: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise Unreadable("bad_url", f"{url[:100]}: an http or https address is needed")
    if "@" in parts.netloc:
        raise Unreadable("bad_url", "it holds a user name or a password")
    return url


def check_online(what: str) -> None:
    """Refuse to begin under --offline."""
    if os.environ.get("LLMCTL_OFFLINE"):
        raise InputError(f"source: {what} needs the network; run without --offline")


def unzipped(data: bytes, most: int) -> bytes:
    """The content of gzip bytes, at most `most` of them."""
    opened = zlib.decompressobj(31)
    try:
        found = opened.decompress(data, most + 1)
    except zlib.error as error:
        raise Unreadable("broken_gzip", str(error)) from None
    if len(found) > most:
        raise Unreadable("too_large", f"would unpack to more than {most} bytes")
    return found


def _content_type(header: str) -> tuple[str, str]:
    kind, *options = header.split(";")
    pairs = (each.partition("=") for each in options)
    charsets = [v.strip(" \"'") for k, _, v in pairs if k.strip().lower() == "charset"]
    return kind.strip().lower(), charsets[0].lower() if charsets else ""


def _suffix(kind: str, url: str) -> str:
    """The ending of the file's name, which chooses the reader."""
    own = PurePosixPath(unquote(urlsplit(url).path)).suffix.lower()
    own = own if own[1:].isalnum() and len(own) <= 10 else ""
    if kind in VAGUE:
        return own or ".txt"
    return KNOWN.get(kind) or mimetypes.guess_extension(kind) or own or ".bin"


def _marked(data: bytes, charset: str) -> bytes:
    """Text as UTF-8 with a mark, since the header's charset beats what the page itself says."""
    if charset in ("iso-8859-1", "latin1", "us-ascii"):
        charset = "windows-1252"
    try:
        return data.decode(charset).encode("utf-8-sig")
    except (LookupError, ValueError):
        return data
