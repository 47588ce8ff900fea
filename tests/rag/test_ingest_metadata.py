"""From files to a filtered search: cleaners, parents, semantic cuts and metadata together."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Run

pytestmark = pytest.mark.model

RECIPE = """
stage: ingest
source: {corpus}
out: {out}
cleaners:
  - unicode
  - {{kind: boilerplate, phrases: [was this helpful]}}
  - {{kind: personal_data, types: [email, phone]}}
  - {{kind: dates, field: updated, newer_than: 2020-01-01}}
  - language
  - whitespace
  - length
chunker:
  kind: small_to_big
  small: {{kind: sentence, max_chars: 60}}
  big: {{kind: semantic, min_chars: 40, max_chars: 400}}
header: path
metadata:
  tags:
    - {{pattern: "api/*", set: {{product: api, level: 2}}}}
    - {{pattern: "*.txt", set: {{product: notes}}}}
  external_id: doc
"""
FILES = {
    "api/users.md": "---\nauthor: Kim\nupdated: 2024-05-01\ndoc: 17\n---\n# Users\n\nA user is "
    "made with a POST. The answer holds the new id. Write to kim@example.org for a key.\n\n"
    "## Limits\n\n"
    "A key may ask ten times a second. More is refused with the status 429.\n\nWas this helpful?\n",
    "api/old.md": "---\nupdated: 2012-01-01\n---\n# Old\n\nUsers were made with a GET long ago.\n",
    "pump.md": "---\nauthor: Lee\nupdated: 2023-01-01\n---\n# Pump\n\nThe pump moves water. The "
    "filter is cleaned each week. Call 415-555-0132 when it leaks.\n",
    "note.txt": "The garden needs water in summer. Roses are cut back in early spring each year.\n",
}


def test_files_become_chunks_that_can_be_filtered(llmctl: Run, tmp_path: Path) -> None:
    for name, text in FILES.items():
        (tmp_path / "corpus" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "corpus" / name).write_text(text)
    recipe, out = tmp_path / "recipe.yaml", tmp_path / "out"
    recipe.write_text(RECIPE.format(corpus=tmp_path / "corpus", out=out))
    done = llmctl("ingest", recipe, "-q")
    assert done.returncode == 0, done.stderr

    def rows(name: str) -> list[dict]:  # type: ignore[type-arg]
        return [json.loads(line) for line in (out / name).read_text().splitlines()]

    documents = {row["id"]: row for row in rows("documents.jsonl")}
    parents = {row["id"]: row for row in rows("parents.jsonl")}
    assert sorted(row["uri"] for row in documents.values()) == [
        "api/users.md", "note.txt", "pump.md",
    ]  # fmt: skip
    assert [row["reason"] for row in rows("dropped.jsonl")] == ["out_of_date"]
    for chunk in rows("chunks.jsonl"):
        text = documents[chunk["document_id"]]["text"]
        assert text[chunk["start"] : chunk["end"]] == chunk["text"]
        around = parents[chunk["parent_id"]]
        assert text[around["start"] : around["end"]] == around["text"]
        assert around["start"] <= chunk["start"] and chunk["end"] <= around["end"]
        assert chunk["meta"]["language"] == "en"
    told = json.loads((out / "metadata.json").read_text())["fields"]
    assert told["product"] == {
        "type": "string", "documents": 2, "distinct": 2, "values": ["api", "notes"],
    }  # fmt: skip
    assert told["updated"]["type"] == "date" and told["updated"]["min"] == "2023-01-01"
    assert told["external_id"]["values"] == ["17"]
    counts = json.loads((out / "manifest.json").read_text())["metrics"]["found_by_cleaners"]
    assert counts == {
        "boilerplate.phrases": 1, "language.en": 3, "personal_data.email": 1,
        "personal_data.phone": 1, "dates.undated": 1,
    }  # fmt: skip
    whole = "\n".join(row["text"] for row in documents.values())
    assert "[EMAIL]" in whole and "[PHONE]" in whole and "helpful" not in whole

    found = llmctl("search", out, "who uses water", "--filter", "author = 'lee'", "--json")
    assert found.returncode == 0, found.stderr
    hits = json.loads(found.stdout)
    hits = hits["hits"] if isinstance(hits, dict) else hits
    assert hits and {hit["meta"]["path"] for hit in hits} == {"pump.md"}
    wrong = llmctl("search", out, "water", "--filter", "autor = 'lee'")
    assert wrong.returncode == 2 and "did you mean 'author'?" in wrong.stderr


def test_what_fits_no_document_is_told(llmctl: Run, tmp_path: Path) -> None:
    (tmp_path / "note.md").write_text("The garden needs water in summer.\n")
    recipe = tmp_path / "recipe.yaml"
    tags = '[{pattern: "*.md", set: {a: 1}}, {pattern: "notes/*", set: {b: 1}}]'
    about = f"{{tags: {tags}, external_id: ticket}}"
    recipe.write_text(
        f"stage: ingest\nsource: {tmp_path / 'note.md'}\nout: {tmp_path / 'out'}\n"
        f"embedder: hashing\nstore: exact\nmetadata: {about}\n"
    )
    done = llmctl("ingest", recipe, "-q")
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "warning: metadata.tags: the pattern `notes/*` fits no document",
        "warning: metadata.external_id: no document has `ticket`",
    ]
