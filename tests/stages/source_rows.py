"""Where each key of a source lands: the fetcher, git's command line, the rows of a database."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

from llmctl.rag.fetching import Fetcher, Page

PAGES = ["no:a", "no:b", "no:c"]  # nothing that is ever fetched
KINDS: dict[str, dict[str, Any]] = {
    "source[urls]": {"urls": PAGES},
    "source[sitemap]": {"url": "http://site.invalid/map.xml"},
    "source[git]": {"url": "."},
    "source[sql]": {"url_env": "REACH_URL", "query": "SELECT 'v' AS a, 'w' AS b"},
}
MAP = (
    "<urlset><url><loc>http://site.invalid/a.html</loc></url>"
    "<url><loc>http://site.invalid/b/c.html</loc></url></urlset>"
)
TREE = b"100644 blob 11\tx.md\x00100644 blob 22\ty.py\x00"


def of_fetcher(name: str) -> Callable[[SimpleNamespace], Any]:
    return lambda built: getattr(built.recipe.source.fetcher(Path()), name)


def pages(built: SimpleNamespace) -> list[str]:
    """The units of a source on the web; a sitemap of two pages is all that there is."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "page"
        path.write_text(MAP)
        with mock.patch.object(Fetcher, "page", lambda self, url: Page(url, path)):
            found = list(built.recipe.source.units(Path(folder)))
    return [unit.error.reason if unit.error else unit.uri.split("/")[-1] for unit in found]


def asked(built: SimpleNamespace) -> tuple[list[str], Any]:
    """(arguments, timeout) of git."""
    done = SimpleNamespace(returncode=0, stdout=b"", stderr=b"")
    with mock.patch("subprocess.run", return_value=done) as run:
        built.recipe.source.revisions()
    return run.call_args.args[0], run.call_args.kwargs["timeout"]


def tree(built: SimpleNamespace) -> list[str]:
    with mock.patch.object(type(built.recipe.source), "_run", return_value=TREE):
        return [path for _, path in built.recipe.source._tree(Path(), "c")]


def rows(built: SimpleNamespace) -> list[tuple[str, str]]:
    """(uri, text) of a query; the reason where there is none."""
    with mock.patch.dict(os.environ, {"REACH_URL": "sqlite://"}):
        try:
            found = list(built.recipe.source.units(Path()))
        except Exception as error:
            return [("", str(error))]
    return [(unit.uri, unit.parsed.text) for unit in found]


def web(kind: str) -> dict[str, Any]:
    at = f"source[{kind}]"
    return {
        f"{at}.user_agent": ("other/2", of_fetcher("agent")),
        f"{at}.delay": (7.0, of_fetcher("delay")),
        f"{at}.timeout": (8.0, of_fetcher("timeout")),
        f"{at}.page_bytes": (9, of_fetcher("max_bytes")),
        f"{at}.allow_private": (True, of_fetcher("allow_private")),
    }


ROWS: dict[str, Any] = {
    **web("urls"),
    **web("sitemap"),
    "source[urls].urls": (["no:d"], pages, ["no:d"]),
    "source[urls].file": ("list.txt", lambda built: str(built.inputs["source.file"])),
    "source[urls].limit": (2, pages, ["no:a", "no:b", "limit"]),
    "source[sitemap].url": (
        "http://other.invalid/", lambda built: built.recipe.source.label()
    ),
    "source[sitemap].include": (["/b/*"], pages, ["c.html"]),
    "source[sitemap].limit": (1, pages, ["a.html", "limit"]),
    "source[git].url": ("..", lambda built: asked(built)[0][2], str(Path("..").absolute())),
    "source[git].ref": ("v1", lambda built: asked(built)[0][-1], "v1^{commit}"),
    "source[git].timeout": (5.0, lambda built: asked(built)[1]),
    "source[git].include": (["*.md"], tree, ["x.md"]),
    "source[sql].url_env": (
        "OTHER", lambda built: "variable OTHER is not set" in rows(built)[0][1], True
    ),
    "source[sql].query": ("SELECT 1 AS n", rows, [("query#row=1", "n: 1")]),
    "source[sql].name": ("wiki", lambda built: rows(built)[0][0], "wiki#row=1"),
}  # fmt: skip
