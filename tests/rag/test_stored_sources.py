"""Folders, git repositories and SQL databases as sources: real git, real SQLite."""

from __future__ import annotations

import os
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmctl.errors import InputError, LlmctlError, MissingError
from llmctl.rag import reading
from llmctl.rag.sources.base import Source, Unit
from llmctl.records import Document
from llmctl.runner import Options, plan
from llmctl.schema.base import schema_of


def git(folder: Path, *arguments: str) -> str:
    own = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b.c", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@b.c", "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip
    done = subprocess.run(
        ["git", "-C", str(folder), *arguments],
        check=True, capture_output=True, text=True, env={**os.environ, **own},
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits, a tag on the first one, and everything that has to be left out."""
    folder = tmp_path / "repository"
    (folder / "docs" / "a b").mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    (folder / "README.md").write_text("# One\n\nFirst words.")
    (folder / "docs" / "a b" / "ü.md").write_text("# Two\n\nOther words.")
    (folder / "docs" / "x.py").write_text("x = 1\n")
    (folder / ".hidden.md").write_text("hidden")
    (folder / "link.md").symlink_to("/etc/passwd")
    (folder / "big.md").write_text(
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n"
    )
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "one")
    git(folder, "tag", "-a", "v1", "-m", "tag")
    (folder / "README.md").write_text("# One\n\nSecond words.")
    git(folder, "commit", "-qam", "two")
    return folder


def test_the_files_of_a_commit(repository: Path, tmp_path: Path) -> None:
    source = Source.of({"kind": "git", "url": str(repository)})
    found = list(source.units(tmp_path / "scratch"))
    assert [unit.uri for unit in found] == [
        "README.md", "big.md", "docs/a b/ü.md", "docs/x.py"
    ]  # fmt: skip
    assert [unit.error.reason for unit in found if unit.error] == ["lfs_pointer"]
    assert found[0].path is not None and found[0].path.read_text() == "# One\n\nSecond words."
    head = git(repository, "rev-parse", "HEAD")
    assert found[0].meta == {"commit": head, "repository": str(repository)}
    assert source.revisions() == {"ref": head} and source.always() == ""
    again = list(source.units(tmp_path / "other"))
    assert [unit.sha256 for unit in again] == [unit.sha256 for unit in found]


@pytest.mark.parametrize("form", ["path", "file"])
def test_a_tag_or_a_commit_and_some_paths(repository: Path, tmp_path: Path, form: str) -> None:
    url = str(repository) if form == "path" else repository.as_uri()
    for ref in ("v1", git(repository, "rev-parse", "v1^{commit}")):
        source = Source.of({"kind": "git", "url": url, "ref": ref, "include": ["*.md"]})
        found = {unit.uri: unit for unit in source.units(tmp_path / ref)}
        assert list(found) == ["README.md", "big.md", "docs/a b/ü.md"]
        path = found["README.md"].path
        assert path is not None and "First words." in path.read_text()


def test_a_fetched_repository_is_one_commit_deep_and_fetched_once(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What https does, over the one other protocol that is allowed."""
    from llmctl.rag.sources.git import GitSource

    monkeypatch.setattr(GitSource, "_is_local", lambda self: False)
    source = GitSource(url=repository.as_uri(), ref="main")
    assert "asked again on every run" in source.always()
    assert GitSource(url=repository.as_uri(), ref="a" * 40).always() == ""
    before = list(source.units(tmp_path / "scratch"))
    assert git(tmp_path / "scratch" / "repository", "rev-list", "--count", "--all") == "1"
    assert not list((tmp_path / "scratch" / "repository").glob("hooks/*"))
    (repository / "new.md").write_text("new")
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "three")
    again = list(source.units(tmp_path / "scratch"))  # a killed run goes on with its commit
    assert [unit.uri for unit in again] == [unit.uri for unit in before]
    fresh = list(source.units(tmp_path / "fresh"))
    assert "new.md" in [unit.uri for unit in fresh]
    monkeypatch.setenv("LLMCTL_OFFLINE", "1")
    with pytest.raises(InputError, match="needs the network"):
        list(source.units(tmp_path / "third"))
    monkeypatch.delenv("LLMCTL_OFFLINE")
    with pytest.raises(LlmctlError, match="git fetch"):
        list(GitSource(url=repository.as_uri(), ref="gone").units(tmp_path / "fourth"))


@pytest.mark.parametrize(
    "url",
    ["http://a.b/c", "ssh://a.b/c", "git@a.b:c", "host:c", "ext::sh -c evil", "-upload-pack=evil",
     "https://user:secret@a.b/c", "git://a.b/c"],
)  # fmt: skip
def test_other_ways_to_a_repository_are_refused(url: str) -> None:
    with pytest.raises(ValidationError):
        Source.of({"kind": "git", "url": url})


@pytest.mark.parametrize("ref", ["--upload-pack=evil", "-x", "a b", "a:b", "a^{tree}", ""])
def test_references_are_names_only(ref: str) -> None:
    with pytest.raises(ValidationError):
        Source.of({"kind": "git", "url": "x", "ref": ref})


def test_no_hook_and_no_filter_of_a_repository_runs(repository: Path, tmp_path: Path) -> None:
    mark = tmp_path / "evil"
    for name in ("post-checkout", "post-merge", "reference-transaction"):
        hook = repository / ".git" / "hooks" / name
        hook.write_text(f"#!/bin/sh\ntouch {mark}\n")
        hook.chmod(0o755)
    (repository / ".gitattributes").write_text("*.md filter=evil diff=evil\n")
    git(repository, "config", "filter.evil.smudge", f"touch {mark}")
    git(repository, "config", "core.fsmonitor", f"touch {mark}")
    git(repository, "config", "diff.evil.textconv", f"touch {mark}")
    git(repository, "add", ".gitattributes")
    git(repository, "commit", "-qm", "evil")
    mark.unlink(missing_ok=True)
    assert list(Source.of({"kind": "git", "url": str(repository)}).units(tmp_path / "s"))
    assert not mark.exists()


def test_wrong_repositories_are_told(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def revisions(url: Path, ref: str = "HEAD") -> dict[str, str]:
        return Source.of({"kind": "git", "url": str(url), "ref": ref}).revisions()

    with pytest.raises(InputError, match="is not there"):
        revisions(tmp_path / "none")
    with pytest.raises(InputError, match="no commit is named gone"):
        revisions(repository, "gone")
    (tmp_path / "plain").mkdir()
    with pytest.raises(InputError, match="not a git repository"):
        revisions(tmp_path / "plain")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingError, match="apt-get install git"):
        revisions(repository)


def test_a_new_commit_is_the_reason_to_run(repository: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text(
        f"stage: ingest\nout: {tmp_path / 'out'}\nsource: {{kind: git, url: {repository}}}\n"
    )
    first = plan("ingest", recipe, Options())
    assert first.key == plan("ingest", recipe, Options()).key
    (repository / "README.md").write_text("Third words.")
    assert first.key == plan("ingest", recipe, Options()).key  # what is not committed is not read
    git(repository, "commit", "-qam", "three")
    assert first.key != plan("ingest", recipe, Options()).key


# --- SQL ------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pytest.importorskip("sqlalchemy")
    path = tmp_path / "data.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE notes (nr INTEGER, title TEXT, body TEXT, raw BLOB)")
        rows = [(1, "One", "First words 10% :x", b"\xff"), (2, None, "", b"ok"), (3, "x", "3", b"")]
        connection.executemany("INSERT INTO notes VALUES (?, ?, ?, ?)", rows)
    connection.close()
    monkeypatch.setenv("NOTES_URL", f"sqlite:///{path}")
    return path


def sql(query: str, **keys: Any) -> list[Unit]:
    keys = {"kind": "sql", "url_env": "NOTES_URL", "query": query, **keys}
    return list(Source.of(keys).units(Path()))


FIELDS = {"text": ["body"], "title": "title", "id": "nr", "meta": ["nr"]}


def test_rows_of_a_query_are_documents(database: Path, tmp_path: Path) -> None:
    query = "SELECT nr, title, body FROM notes WHERE body LIKE '%words%' OR nr > 1 ORDER BY nr;"
    source = {"kind": "sql", "url_env": "NOTES_URL", "query": query, "fields": FIELDS}
    recipe = schema_of("ingest").model_validate(
        {"stage": "ingest", "out": "o", "cleaners": [], "source": source}
    )
    found = list(reading.iterate(recipe, tmp_path))  # type: ignore[arg-type]
    first = found[0]
    assert isinstance(first, dict)
    assert first["uri"] == "query#1" and first["text"] == "First words 10% :x"
    assert first["title"] == "One" and first["meta"]["nr"] == 1
    assert len(first["source"]["sha256"]) == 64
    dropped = [each for each in found if isinstance(each, reading.Dropped)]
    assert [(each.uri, each.reason) for each in dropped] == [("query#2", "empty")]
    units = sql(query, fields=FIELDS)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE notes SET body = 'changed' WHERE nr = 3")
    connection.close()
    again = sql(query, fields=FIELDS)
    assert [a.sha256 == b.sha256 for a, b in zip(units, again, strict=True)] == [True, True, False]
    assert [unit.uri for unit in sql("select * from notes", name="n")] == [
        "n#row=1", "n#row=2", "n#row=3"
    ]  # fmt: skip


@pytest.mark.parametrize(
    "query",
    ["DELETE FROM notes", "SELECT 1; DROP TABLE notes", "", "PRAGMA user_version = 3",
     "select 1; -- ;\n delete from notes", "ATTACH 'x' AS y", "/* select */ delete from notes"],
)  # fmt: skip
def test_only_one_select_is_taken(query: str) -> None:
    with pytest.raises(ValidationError, match="one SELECT is needed"):
        Source.of({"kind": "sql", "url_env": "A", "query": query})


@pytest.mark.parametrize(
    "query",
    ["SELECT ';' AS a", "with a as (select 1 as b) select * from a", "(select 1) ;", "VALUES (1)"],
)
def test_selects_of_all_forms_are_taken(query: str) -> None:
    assert Source.of({"kind": "sql", "url_env": "A", "query": query})


def test_the_database_is_only_read(database: Path) -> None:
    """SQLite takes a WITH in front of a DELETE; the connection does not."""
    with pytest.raises(InputError, match="readonly"):
        sql("WITH a AS (SELECT 1) DELETE FROM notes RETURNING nr")
    with sqlite3.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM notes").fetchone() == (3,)
    connection.close()


def test_wrong_databases_are_told_without_their_password(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def told(url: str, query: str = "select 1") -> str:
        monkeypatch.setenv("NOTES_URL", url)
        with pytest.raises(LlmctlError) as error:
            sql(query)
        assert "secret" not in str(error.value) and "\n" not in str(error.value)
        return str(error.value)

    assert "no such table: gone" in told(f"sqlite:///{database}", "select * from gone")
    assert "a value is required" in told(f"sqlite:///{database}", "select :x").lower()
    assert "cannot be reached" in told("sqlite:///file:/nowhere/x?mode=ro&uri=true")
    assert "is not there" in told("sqlite:////nowhere/x.sqlite")
    assert "holds no SQLAlchemy URL" in told("words with secret")
    assert "holds no SQLAlchemy URL" in told("nosuch://u:secret@h/d")
    monkeypatch.delenv("NOTES_URL")
    with pytest.raises(MissingError, match=r"source\.url_env: .* NOTES_URL is not set; export"):
        sql("select 1")


@pytest.mark.parametrize(
    ("dialect", "package"), [("postgresql+pg8000", "pg8000"), ("mysql", "mysqlclient")]
)
def test_a_missing_driver_is_exit_code_3(
    monkeypatch: pytest.MonkeyPatch, dialect: str, package: str
) -> None:
    pytest.importorskip("sqlalchemy")
    monkeypatch.setenv("NOTES_URL", f"{dialect}://u:secret@127.0.0.1/d")
    with pytest.raises(MissingError, match=f"pip install {package}$"):
        sql("select 1")


def test_rows_are_not_a_list(database: Path) -> None:
    import tracemalloc

    query = (
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) "
        "SELECT i, 'some words that make a row longer' AS words FROM n"
    )
    keys = {"kind": "sql", "url_env": "NOTES_URL", "query": query}
    units = Source.of(keys).units(Path())
    next(units)
    tracemalloc.start()
    assert sum(1 for _ in units) == 29_999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


# --- folder ---------------------------------------------------------------------------------


def test_a_text_is_a_folder_and_units_are_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "docs" / ".git").mkdir(parents=True)
    (tmp_path / "docs" / ".git" / "x.md").write_text("no")
    (tmp_path / "docs" / "b.md").write_text("words")
    (tmp_path / "docs" / "a.bin").write_bytes(b"\0")
    recipe: Any = schema_of("ingest").model_validate(
        {"stage": "ingest", "out": "o", "source": str(tmp_path / "docs"), "cleaners": []}
    )
    assert recipe.source.kind == "folder"
    assert recipe.dump()["source"] == {"kind": "folder", "path": str(tmp_path / "docs")}
    units = list(reading.units(recipe, tmp_path))
    assert [unit.uri for unit in units] == ["a.bin", "b.md"]
    assert all(len(unit.sha256) == 64 for unit in units)
    [document] = reading.documents_of(recipe, units[1])
    assert isinstance(document, dict)
    found: Document = document
    assert found["text"] == "words" and found["source"]["sha256"] == units[1].sha256
    [dropped] = reading.documents_of(recipe, units[0])
    assert isinstance(dropped, reading.Dropped) and dropped.decided
