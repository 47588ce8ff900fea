"""Incremental ingest: what is taken over, what a kill leaves, and that both equal a fresh run."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("Stemmer")

from llmctl import artifact as artifacts
from llmctl.rag import filling, keywords
from llmctl.rag.embedders.hashing import Hashing
from llmctl.rag.stores.base import Store
from llmctl.rows import read
from llmctl.runner import Options
from llmctl.runner import run as run_recipe

ROWS = ("documents.jsonl", "chunks.jsonl", "dropped.jsonl", "units.jsonl", "metadata.json")


def recipe(tmp_path: Path, source: Path, out: str = "out", **keys: Any) -> Path:
    path = tmp_path / f"{out}.yaml"
    values = {
        "stage": "ingest", "source": str(source), "out": str(tmp_path / out),
        "embedder": "hashing", "store": "exact",
        "chunker": {"kind": "sentence", "max_chars": 120}, **keys,
    }  # fmt: skip
    path.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    return path


def ingest(tmp_path: Path, source: Path, out: str = "out", **keys: Any) -> dict[str, int]:
    options = Options(force=keys.pop("force", False))
    result = run_recipe("ingest", recipe(tmp_path, source, out, **keys), options)
    return {k.removeprefix("documents_"): v for k, v in result["metrics"].items()}


def write(folder: Path, number: int, words: str = "") -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{number:03}.txt"
    path.write_text(
        f"Note {number}. {words}" + " ".join(f"Sentence {i} of note {number}." for i in range(12))
    )
    return path


def same(tmp_path: Path, one: str, other: str) -> None:
    """Rows are equal bytes, vectors and both indexes are equal."""
    a, b = tmp_path / one, tmp_path / other
    for name in ROWS:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    assert np.array_equal(np.load(a / "vectors.npy"), np.load(b / "vectors.npy"))
    ids = [row["id"] for row in read(a / "chunks.jsonl")]
    kind = json.loads((a / "manifest.json").read_text())["recipe"]["store"]
    question = Hashing(256).query("note 7 sentence 3 changed")
    found = []
    for folder in (a, b):
        index = keywords.open(folder / "keywords")
        assert sorted(index.ids) == sorted(ids)
        with Store.of(kind).open(folder / "store") as store:
            assert np.allclose(store.vectors(ids), np.load(a / "vectors.npy"))
            near = store.near(question, 5)
        found.append((index.top("note 7 sentence changed", 5), near))
    assert found[0] == found[1]


@pytest.mark.parametrize("store", ["exact", "chroma", "qdrant"])
def test_added_changed_and_removed_documents_give_what_a_fresh_run_gives(
    tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip({"chroma": "chromadb", "qdrant": "qdrant_edge"}.get(store, "numpy"))
    docs = tmp_path / "docs"
    for number in range(30):
        write(docs, number)
    assert ingest(tmp_path, docs, store=store)["added"] == 30
    write(docs, 7, "This is changed. ")
    write(docs, 40)
    (docs / "012.txt").unlink()
    (docs / "013.txt").write_bytes(b"\0")
    embedded, parsed = [], []
    texts, documents = Hashing.texts, filling.documents_of
    monkeypatch.setattr(Hashing, "texts", lambda s, t: embedded.extend(t) or texts(s, t))
    monkeypatch.setattr(
        filling, "documents_of", lambda r, u, c: parsed.append(u.uri) or documents(r, u, c)
    )
    found = ingest(tmp_path, docs, store=store)
    assert {k: found[k] for k in ("added", "changed", "removed", "unchanged")} == {
        "added": 1, "changed": 1, "removed": 2, "unchanged": 27,
    }  # fmt: skip
    assert parsed == ["007.txt", "013.txt", "040.txt"]
    new = len(list((tmp_path / "out" / "chunks.jsonl").open())) / 29
    assert 0 < len(embedded) <= 2 * new + 2
    monkeypatch.undo()
    ingest(tmp_path, docs, "fresh", store=store)
    same(tmp_path, "out", "fresh")


def test_only_the_changed_passage_of_a_long_document_is_embedded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    lines = [
        f"Paragraph {i} has some words about number {i * i}, and then it ends." for i in range(1100)
    ]
    (docs / "book.txt").write_text("\n\n".join(lines))
    ingest(tmp_path, docs)
    units = list(read(tmp_path / "out" / "units.jsonl"))
    assert [row["last"] for row in units] == [False, True]  # one document, and the unit's end
    lines[-2] = "Paragraph 1098 was rewritten."
    (docs / "book.txt").write_text("\n\n".join(lines))
    embedded: list[str] = []
    texts = Hashing.texts
    monkeypatch.setattr(Hashing, "texts", lambda s, t: embedded.extend(t) or texts(s, t))
    ingest(tmp_path, docs)
    assert 1 <= len(embedded) <= 2 and any("rewritten" in text for text in embedded)
    monkeypatch.undo()
    ingest(tmp_path, docs, "fresh")
    same(tmp_path, "out", "fresh")


def test_another_recipe_or_force_takes_nothing_over(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    write(docs, 1), write(docs, 2)
    ingest(tmp_path, docs)
    assert ingest(tmp_path, docs, keywords={"b": 0.5})["unchanged"] == 2
    assert ingest(tmp_path, docs, cleaners=["unicode"])["added"] == 2
    assert ingest(tmp_path, docs, cleaners=["unicode"], force=True)["added"] == 2
    assert ingest(tmp_path, docs, cleaners=["unicode"])["added"] == 2  # nothing was to do
    other = tmp_path / "moved"
    docs.rename(other)
    write(other, 3)
    found = ingest(tmp_path, other, cleaners=["unicode"])
    assert (found["unchanged"], found["added"]) == (2, 1)


def killed(tmp_path: Path, path: Path, seconds: float) -> bool:
    """Run in a process that is killed after some time; whether it was still running."""
    with (tmp_path / "log").open("a") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "llmctl", "ingest", str(path)], stdout=log, stderr=log
        )
        try:
            code = child.wait(seconds)
        except subprocess.TimeoutExpired:
            os.kill(child.pid, signal.SIGKILL)
            child.wait()
            return True
        assert code == 0, (tmp_path / "log").read_text()
        return False


def whole(out: Path) -> None:
    """An artifact is there or it is not, never a part of one."""
    manifest = artifacts.read_manifest(out)
    assert manifest is not None
    assert artifacts.changed_output(out, manifest, reread=True) is None


def test_a_kill_at_any_point_leaves_the_old_snapshot_and_the_next_run_finishes(
    tmp_path: Path,
) -> None:
    docs, draw = tmp_path / "docs", random.Random(5)
    for number in range(250):
        write(docs, number)
    (docs / "long.txt").write_text(
        "\n\n".join(f"Paragraph {i} of the long one, which has words." for i in range(5000))
    )
    path = recipe(tmp_path, docs)
    for seconds in (0.5, 0.8, 1.1, 1.4, 600):
        if killed(tmp_path, path, draw.uniform(0.8, 1.2) * seconds) and (tmp_path / "out").exists():
            whole(tmp_path / "out")  # killed behind the switch
    ingest(tmp_path, docs, "fresh", force=True)
    same(tmp_path, "out", "fresh")
    for round_ in range(3):
        write(docs, 7 + round_, "This is changed. ")
        (docs / f"{20 + round_:03}.txt").unlink()
        before = {name: (tmp_path / "out" / name).read_bytes() for name in ROWS}
        for _ in range(3):
            if not killed(tmp_path, path, draw.uniform(0.2, 0.9)):
                break
            whole(tmp_path / "out")
            if {name: (tmp_path / "out" / name).read_bytes() for name in ROWS} != before:
                break  # killed behind the switch: the new snapshot is there, and whole
        ingest(tmp_path, docs)
        ingest(tmp_path, docs, "fresh", force=True)
        same(tmp_path, "out", "fresh")


def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    docs = tmp_path / "docs"
    for number in range(200):
        write(docs, number)
    monkeypatch.setattr(filling, "GROUP", 256)
    calls: list[int] = []
    texts = Hashing.texts

    class Killed(BaseException):
        pass

    def until(limit: int) -> Any:
        def embed(self: Hashing, batch: list[str]) -> Any:
            if len(calls) == limit:
                raise Killed
            calls.append(len(batch))
            return texts(self, batch)

        return embed

    monkeypatch.setattr(Hashing, "texts", until(2))
    with pytest.raises(Killed):
        ingest(tmp_path, docs)
    with (tmp_path / "out.partial" / "units.jsonl").open("a") as file:
        file.write('{"uri": "torn')
    monkeypatch.setattr(Hashing, "texts", until(1000))
    ingest(tmp_path, docs)
    assert sum(calls) == len(list(read(tmp_path / "out" / "chunks.jsonl")))
    monkeypatch.undo()
    ingest(tmp_path, docs, "fresh")
    same(tmp_path, "out", "fresh")


def test_vectors_made_while_the_next_documents_are_read_are_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    docs = tmp_path / "docs"
    for number in range(12):
        write(docs, number)
    keys = {"embedder": {"kind": "onnx", "batch_tokens": 64}}
    ingest(tmp_path, docs, "whole", **keys)
    documents = filling.documents_of

    class Killed(BaseException):
        pass

    def until(recipe: Any, unit: Any, removed: Any) -> Any:
        if unit.uri == "009.txt":
            raise Killed
        return documents(recipe, unit, removed)

    monkeypatch.setattr(filling, "GROUP", 5)
    monkeypatch.setattr(filling, "documents_of", until)
    with pytest.raises(Killed):
        ingest(tmp_path, docs, **keys)
    monkeypatch.setattr(filling, "documents_of", documents)
    kept = [row["uri"] for row in read(tmp_path / "out.partial" / "units.jsonl")]
    assert kept == [f"{number:03}.txt" for number in range(len(kept))] and 4 < len(kept) < 9
    ingest(tmp_path, docs, **keys)
    a, b = tmp_path / "whole", tmp_path / "out"
    for name in ROWS:
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    cosine = (np.load(a / "vectors.npy") * np.load(b / "vectors.npy")).sum(1)
    assert cosine.min() > 0.99999
