"""Pages from a real server on this machine: manners, limits, and no way into private networks."""

from __future__ import annotations

import gzip
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import InputError
from llmctl.rag import fetching, reading, robots
from llmctl.rag.sources.base import Source, Unit
from llmctl.schema.ingest import IngestRecipe

pytest.importorskip("httpx")
pytest.importorskip("bs4")
Answer = tuple[int, dict[str, str], bytes]


class Site:
    """A server; `pages` maps a path to (status, headers, body) or to a function that answers."""

    def __init__(self) -> None:
        site = self
        self.pages: dict[str, Any] = {}
        self.asked: list[tuple[str, str, str]] = []  # (path, Host, address that was reached)

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                reached = self.connection.getsockname()[0]
                site.asked.append((self.path, self.headers["Host"], reached))
                found = site.pages.get(self.path, (404, {}, b"no"))
                if callable(found):
                    found(self)
                    return
                status, headers, body = found
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("0.0.0.0", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.root = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def html(self, path: str, words: str) -> str:
        body = f"<html><title>{words}</title><p>{words}</p></html>".encode()
        self.pages[path] = (200, {"Content-Type": "text/html"}, body)
        return self.root + path


@pytest.fixture
def site() -> Iterator[Site]:
    found = Site()
    yield found
    found.server.shutdown()
    found.server.server_close()


def units(scratch: Path, kind: str = "urls", **keys: Any) -> list[Unit]:
    keys = {"kind": kind, "delay": 0, "allow_private": True, "timeout": 5, **keys}
    return list(Source.of(keys).units(scratch))


def reasons(found: list[Unit]) -> list[str]:
    return [unit.error.reason if unit.error else "fetched" for unit in found]


def redirect(to: str) -> Answer:
    return 302, {"Location": to}, b""


def test_pages_of_many_kinds_become_documents(site: Site, tmp_path: Path) -> None:
    umlauts = "Größe".encode("latin-1")
    site.html("/a", "first")
    site.pages["/b.md"] = (200, {"Content-Type": "text/plain"}, b"# Second\n\nwords")
    site.pages["/c"] = (200, {"Content-Type": "text/html; charset=ISO-8859-1"}, umlauts)
    site.pages["/d?x=1"] = (200, {"Content-Type": "application/json"}, b'[{"t": 1}, {"t": 2}]')
    packed = {"Content-Type": "text/html", "Content-Encoding": "gzip"}
    site.pages["/e"] = (200, packed, gzip.compress(b"<p>packed</p>"))
    site.pages["/f"] = redirect("/a")
    source = {
        "kind": "urls", "delay": 0, "allow_private": True,
        "urls": [site.root + p for p in ("/a#part", "/b.md", "/c", "/d?x=1", "/e", "/f", "/a")],
    }  # fmt: skip
    recipe = IngestRecipe.model_validate(
        {"stage": "ingest", "out": "out", "source": source, "cleaners": []}
    )
    documents, dropped = reading.read(recipe, {})
    texts = {document["uri"].removeprefix(site.root): document["text"] for document in documents}
    assert dropped == []
    assert texts == {
        "/a": "first", "/b.md": "# Second\n\nwords", "/c": "Größe", "/d?x=1#row=1": "t: 1",
        "/d?x=1#row=2": "t: 2", "/e": "packed", "/f": "first",
    }  # fmt: skip
    assert documents[-1]["source"]["url"] == site.root + "/a"
    assert documents[0]["title"] == "first"


def drip(handler: Any) -> None:
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        try:
            handler.wfile.write(b"x")
            time.sleep(0.05)
        except OSError:
            return


def test_what_cannot_be_fetched_is_one_reason_each(site: Site, tmp_path: Path) -> None:
    site.html("/good", "good")
    site.pages["/big"] = (200, {}, b"x" * 2000)
    bomb = gzip.compress(bytes(30_000_000))
    site.pages["/bomb"] = (200, {"Content-Encoding": "gzip"}, bomb)
    site.pages["/brotli"] = (200, {"Content-Encoding": "br"}, b"x")
    site.pages["/loop"] = redirect("/loop")
    site.pages["/file"] = redirect("file:///etc/passwd")
    site.pages["/fail"] = (500, {}, b"")
    site.pages["/drip"] = drip
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    wanted = {
        "/good": "fetched", "/gone": "http_status", "/fail": "http_status", "/big": "too_large",
        "/bomb": "too_large", "/brotli": "http_encoding", "/loop": "redirects",
        "/file": "bad_url", "/drip": "too_slow",
    }  # fmt: skip
    urls = [site.root + path for path in wanted]
    more = {
        f"http://127.0.0.1:{port}/": "unreachable", "ftp://a.b/c": "bad_url", "words": "bad_url",
        "http://user:secret@127.0.0.1/": "bad_url", "http://a.invalid/": "unreachable",
        "http://[::1": "bad_url",
    }  # fmt: skip
    found = units(tmp_path, urls=[*urls, *more], page_bytes=1000, timeout=1)
    assert reasons(found) == [*wanted.values(), *more.values()]
    assert all("secret" not in unit.error.detail for unit in found if unit.error)


def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path) -> None:
    answers = [(503, {"Retry-After": "0"}, b""), (200, {"Content-Type": "text/plain"}, b"now")]

    def busy(handler: Any) -> None:
        status, headers, body = answers.pop(0)
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    site.pages["/a"] = busy
    assert reasons(units(tmp_path, urls=[f"{site.root}/a"])) == ["fetched"]


def test_a_killed_run_fetches_no_page_twice(site: Site, tmp_path: Path) -> None:
    urls = [site.html(f"/{n}", f"page {n}") for n in range(3)]
    first = units(tmp_path, urls=urls[:2])
    asked = len(site.asked)
    again = units(tmp_path, urls=urls)
    assert [u.sha256 for u in again[:2]] == [u.sha256 for u in first]
    assert [path for path, _, _ in site.asked[asked:]] == ["/robots.txt", "/2"]


def test_requests_to_a_host_keep_their_distance(site: Site, tmp_path: Path) -> None:
    urls = [site.html(f"/{n}", f"page {n}") for n in range(3)]
    started = time.monotonic()
    units(tmp_path, urls=urls, delay=0.1)
    assert time.monotonic() - started >= 0.3
    site.pages["/robots.txt"] = (200, {}, b"User-agent: *\nCrawl-delay: 0.2\n")
    started = time.monotonic()
    units(tmp_path / "b", urls=urls)
    assert time.monotonic() - started >= 0.4


def test_robots_txt_is_obeyed_on_every_hop(site: Site, tmp_path: Path) -> None:
    site.pages["/robots.txt"] = (
        200, {}, b"User-agent: llmctl\nDisallow: /secret\nDisallow: /*.pdf$\n",
    )  # fmt: skip
    site.html("/secret/a", "no")
    site.html("/open", "yes")
    site.pages["/way"] = redirect("/secret/a")
    urls = [site.root + path for path in ("/secret/a", "/open", "/way", "/x.pdf", "/%73ecret/a")]
    assert reasons(units(tmp_path, urls=urls)) == [
        "robots",
        "fetched",
        "robots",
        "robots",
        "robots",
    ]
    assert {path for path, _, _ in site.asked} == {"/robots.txt", "/open", "/way"}
    other = units(tmp_path / "other", urls=urls[:1], user_agent="curious/1")
    assert reasons(other) == ["fetched"]
    site.pages["/robots.txt"] = (500, {}, b"")
    assert reasons(units(tmp_path / "broken", urls=urls[1:2])) == ["robots"]


@pytest.mark.parametrize(
    ("rules", "path", "allowed"),
    [
        ("", "/a", True),
        ("User-agent: *\nDisallow:", "/a", True),
        ("User-agent: *\nDisallow: /", "/a", False),
        ("User-agent: *\nDisallow: /\nAllow: /a", "/a/b", True),
        ("User-agent: *\nAllow: /a\nDisallow: /a", "/a", True),
        ("User-agent: *\nDisallow: /a*c", "/a/b/c", False),
        ("User-agent: *\nDisallow: /*.pdf$", "/x.pdf?v=1", True),
        ("User-agent: *\nDisallow: /a$", "/ab", True),
        ("User-agent: *\nDisallow: /*?id=", "/x?id=3", False),
        ("User-agent: other\nDisallow: /", "/a", True),
        ("User-agent: x\nUser-agent: LLMCTL\nDisallow: /a # why", "/a", False),
        ("User-agent: llmctl\nAllow: /\nUser-agent: *\nDisallow: /", "/a", True),
        ("Sitemap: x\nDisallow: /", "/a", True),
        ("User-agent: *\nDisallow: /" + "*a" * 3000 + "b", "/" + "a" * 3000, True),
    ],
)
def test_the_longest_rule_decides(rules: str, path: str, allowed: bool) -> None:
    assert robots.parse(rules, "llmctl/1.0").allows(f"http://a.b{path}") is allowed


# --- private networks ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1",
     "0.0.0.0", "224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1",
     "ff02::1", "::ffff:10.0.0.1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::1",
     "::7f00:1", "words"],
)  # fmt: skip
def test_private_addresses_are_not_public(address: str) -> None:
    assert not fetching.is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111"])
def test_public_addresses_are(address: str) -> None:
    assert fetching.is_public(address)


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"],
)  # fmt: skip
def test_no_spelling_of_this_machine_is_asked(site: Site, tmp_path: Path, host: str) -> None:
    found = units(tmp_path, urls=[f"http://{host}:{site.port}/"], allow_private=False)
    assert reasons(found) == ["private_address"] or reasons(found) == ["unreachable"]
    assert site.asked == []


Names = Callable[..., Any]


def resolver(monkeypatch: pytest.MonkeyPatch, names: dict[str, list[str]]) -> list[str]:
    """Names have the addresses given, one after the other, and 127.0.0.1 counts as public."""
    real = socket.getaddrinfo
    asked: list[str] = []

    def look(host: Any, port: Any, *rest: Any, **more: Any) -> Any:
        if host in names:
            asked.append(host)
            addresses = names[host]
            host = addresses.pop(0) if len(addresses) > 1 else addresses[0]
        return real(host, port, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look)
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    return asked


def test_a_redirect_into_a_private_network_is_refused(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver(monkeypatch, {"public.test": ["127.0.0.1"], "inside.test": ["127.0.0.2"]})
    site.pages["/by-address"] = redirect(f"http://127.0.0.2:{site.port}/secret")
    site.pages["/by-name"] = redirect(f"http://inside.test:{site.port}/secret")
    urls = [f"http://public.test:{site.port}/{path}" for path in ("by-address", "by-name")]
    assert reasons(units(tmp_path, urls=urls, allow_private=False)) == ["private_address"] * 2
    assert {reached for _, _, reached in site.asked} == {"127.0.0.1"}
    assert "/secret" not in {path for path, _, _ in site.asked}


def test_the_address_that_was_checked_is_the_one_that_is_asked(
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that is public when it is checked and private right after."""
    site.html("/", "page")
    resolver(monkeypatch, {"moves.test": ["127.0.0.1", "127.0.0.1", "127.0.0.2"]})
    found = units(tmp_path, urls=[f"http://moves.test:{site.port}/"], allow_private=False)
    assert reasons(found) == ["fetched"]
    assert [(path, reached) for path, _, reached in site.asked] == [
        ("/robots.txt", "127.0.0.1"), ("/", "127.0.0.1")
    ]  # fmt: skip
    assert {host for _, host, _ in site.asked} == {f"moves.test:{site.port}"}


def test_certificates_are_checked_against_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate: apt-get install openssl")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj",
         "/CN=right.test", "-addext", "subjectAltName=DNS:right.test", "-keyout",
         str(tmp_path / "key"), "-out", str(tmp_path / "cert")],
        check=True, capture_output=True,
    )  # fmt: skip
    site = Site()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    site.server.socket = context.wrap_socket(site.server.socket, server_side=True)
    site.html("/", "page")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert"))
    resolver(monkeypatch, {"right.test": ["127.0.0.1"], "wrong.test": ["127.0.0.1"]})
    urls = [f"https://{name}.test:{site.port}/" for name in ("right", "wrong")]
    found = units(tmp_path, urls=urls, allow_private=False)
    site.server.shutdown()
    site.server.server_close()
    assert reasons(found) == ["fetched", "unreachable"]
    assert found[1].error is not None and "certificate" in found[1].error.detail.lower()


def test_offline_asks_nobody(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    with pytest.raises(InputError, match="needs the network; run without --offline"):
        units(tmp_path, urls=[site.html("/a", "a")])
    assert site.asked == []


# --- lists and sitemaps --------------------------------------------------------------------------


def test_a_file_lists_addresses(site: Site, tmp_path: Path) -> None:
    urls = [site.html(f"/{n}", f"page {n}") for n in range(4)]
    listing = tmp_path / "urls.txt"
    listing.write_text(f"# pages\n{urls[0]}\n\n  {urls[1]}  # a page\n{urls[0]}\n{urls[2]}\n")
    found = units(tmp_path, file=str(listing), limit=2)
    assert [(u.uri, r) for u, r in zip(found, reasons(found), strict=True)] == [
        (urls[0], "fetched"), (urls[1], "fetched"), (urls[2], "limit")
    ]  # fmt: skip
    source = Source.of({"kind": "urls", "file": str(listing)})
    assert source.inputs() == {"file": listing}
    assert "asked again on every run" in source.always()
    with pytest.raises(ValueError, match="give `urls` or `file`"):
        Source.of("urls").of({"kind": "urls"})


def urlset(*urls: str, tag: str = "url", root: str = "urlset") -> bytes:
    entries = "".join(f"<{tag}><loc> {u} </loc><lastmod>2024-05-06</lastmod></{tag}>" for u in urls)
    space = "http://www.sitemaps.org/schemas/sitemap/0.9"
    return f'<?xml version="1.0"?><{root} xmlns="{space}">{entries}</{root}>'.encode()


def test_a_sitemap_of_sitemaps(site: Site, tmp_path: Path) -> None:
    pages = [site.html(f"/docs/{n}", f"page {n}") for n in range(3)]
    blog = site.html("/blog/1", "blog")
    maps = [f"{site.root}/{name}" for name in ("a.xml", "b.xml.gz", "gone.xml", "bad.xml")]
    site.pages["/sitemap.xml"] = (200, {}, urlset(*maps, tag="sitemap", root="sitemapindex"))
    site.pages["/a.xml"] = (200, {}, urlset(pages[0], blog, "http://elsewhere.test/", "nothing"))
    packed = gzip.compress(urlset(pages[1], pages[2]))
    site.pages["/b.xml.gz"] = (200, {"Content-Type": "application/gzip"}, packed)
    site.pages["/bad.xml"] = (200, {}, b'<!DOCTYPE a [<!ENTITY b "c">]><urlset/>')
    found = units(tmp_path, "sitemap", url=f"{site.root}/sitemap.xml", include=["/docs/*"])
    assert [(u.uri, r) for u, r in zip(found, reasons(found), strict=True)] == [
        (pages[0], "fetched"), ("http://elsewhere.test/", "other_host"), ("nothing", "bad_url"),
        (pages[1], "fetched"), (pages[2], "fetched"), (maps[2], "http_status"),
        (maps[3], "unsafe_xml"),
    ]  # fmt: skip
    assert found[0].meta == {"lastmod": "2024-05-06", "url": pages[0]}


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"<html/>", "broken_xml"),
        (b"words", "broken_xml"),
        (gzip.compress(bytes(60_000_000)), "too_large"),
        (b"\x1f\x8bwrong", "broken_gzip"),
        (b"<a>" * 300, "too_deep"),
    ],
)  # fmt: skip
def test_a_wrong_sitemap_is_one_reason(
    site: Site, tmp_path: Path, body: bytes, reason: str
) -> None:
    site.pages["/s.xml"] = (200, {}, body)
    assert reasons(units(tmp_path, "sitemap", url=f"{site.root}/s.xml")) == [reason]


def test_a_sitemap_that_lists_itself_ends(site: Site, tmp_path: Path) -> None:
    own = f"{site.root}/s.xml"
    site.pages["/s.xml"] = (200, {}, urlset(own, own, tag="sitemap", root="sitemapindex"))
    found = reasons(units(tmp_path, "sitemap", url=own))
    assert set(found) == {"limit"} and len(found) == 2**4
