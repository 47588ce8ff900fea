"""Metadata: typed fields of documents, tags by path, and what a store says of its fields."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.rag.cutting import cut, embedded_text
from llmctl.rag.filters import parse
from llmctl.rag.metadata import Described, carried, of_document
from llmctl.rag.reading import read
from llmctl.records import Document
from llmctl.schema.ingest import IngestRecipe
from llmctl.schema.metadata import Metadata


def metadata(**keys: Any) -> Metadata:
    return Metadata.model_validate(keys)


def fields(meta: dict[str, Any], uri: str = "a.md", **keys: Any) -> dict[str, Any]:
    return of_document(metadata(**keys), uri, meta)[0]


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("Lee", "Lee"),
        ("  spaces  ", "spaces"),
        (7, 7),
        (2.5, 2.5),
        (True, True),
        (datetime.date(2024, 1, 31), "2024-01-31"),
        (datetime.datetime(2024, 1, 31, 10, 30), "2024-01-31T10:30:00"),
        ("2024-01-31", "2024-01-31"),
        ("2024-01-31 10:30:00 +02:00", "2024-01-31T08:30:00Z"),
        ("2024-01-31T10:30:00.123Z", "2024-01-31T10:30:00Z"),
        ("2024-02-31", "2024-02-31"),  # no such day: a text
        (["a", 1, None, {"b": 1}, ["c"]], ["a", 1]),
    ],
)
def test_values_are_typed(value: Any, found: Any) -> None:
    assert fields({"name": value}) == {"name": found}


@pytest.mark.parametrize("value", [None, "", "  ", float("nan"), 2**80, [], [None], {}])
def test_what_says_nothing_is_no_field(value: Any) -> None:
    assert fields({"name": value}) == {}


def test_mappings_are_flattened_and_own_names_kept_apart() -> None:
    meta = {"author": {"name": "Lee", "org": {"city": "Oslo"}}, "page": 9, 3: "three"}
    assert fields(meta) == {
        "author.name": "Lee",
        "author.org.city": "Oslo",
        "document.page": 9,
        "3": "three",
    }


def test_an_email_date_is_read_where_the_name_says_date() -> None:
    text = "Wed, 31 Jan 2024 10:30:00 +0200"
    assert fields({"date": text, "note": text}) == {"date": "2024-01-31T08:30:00Z", "note": text}


def test_declared_types_win_and_misfits_are_counted() -> None:
    meta = {"version": 2.5, "year": "2024", "tags": "a, b", "live": "yes", "price": "cheap"}
    types = {
        "version": "string", "year": "number", "tags": "list", "live": "boolean",
        "price": "number", "absent": "date",
    }  # fmt: skip
    found, wrong = of_document(metadata(types=types), "a.md", meta)
    assert found == {"version": "2.5", "year": 2024, "tags": ["a", "b"], "live": True}
    assert wrong == 1


def test_tags_are_set_by_path_and_the_last_wins() -> None:
    tags = [
        {"pattern": "*", "set": {"product": "all", "level": 1}},
        {"pattern": "api/*", "set": {"product": "api", "since": "2024-01-01"}},
    ]
    assert fields({"level": 3}, "b.md", tags=tags) == {"level": 1, "product": "all"}
    assert fields({}, "api/v2/c.md", tags=tags) == {
        "level": 1, "product": "api", "since": "2024-01-01",
    }  # fmt: skip


def test_chosen_fields_and_the_external_id() -> None:
    meta = {"doc": 17, "author": "Lee", "noise": "x"}
    assert fields(meta, fields=["author"], external_id="doc") == {
        "author": "Lee",
        "external_id": "17",
    }


DOCUMENT: Document = {
    "id": "d",
    "uri": "api/guide.md",
    "title": "Guide",
    "text": "# Guide\n\nHello.\n\n## Install\n\nRun it.\n\n### On Linux\n\nRun it there.\n",
    "source": {},
    "meta": {
        "author": "Lee", "date": "2024-01-31", "long": "x" * 600, "tags": ["a", "b"],
        "reader": "markdown", "headed": True, "paged": False,
    },
}  # fmt: skip


def recipe(**keys: Any) -> IngestRecipe:
    return IngestRecipe.model_validate({"stage": "ingest", "out": "o", "source": "s", **keys})


def test_a_chunk_carries_the_document_but_not_its_long_texts() -> None:
    assert carried(DOCUMENT) == {
        "author": "Lee", "date": "2024-01-31", "tags": ["a", "b"], "title": "Guide",
        "path": "api/guide.md",
    }  # fmt: skip
    chunks = cut(recipe(chunker="markdown"), DOCUMENT).chunks
    assert [chunk["meta"]["headings"] for chunk in chunks] == [
        ["Guide"], ["Guide", "Install"], ["Guide", "Install", "On Linux"],
    ]  # fmt: skip


def test_the_header_goes_before_what_is_embedded_and_the_span_stays() -> None:
    title, path = recipe(chunker="markdown", header="title"), recipe(header="path")
    chunks = cut(title, DOCUMENT).chunks
    assert [embedded_text(chunk, title).split("\n")[0] for chunk in chunks] == [
        "# Guide", "Guide", "Guide",
    ]  # fmt: skip
    assert [embedded_text(chunk, path).split("\n")[0] for chunk in chunks] == [
        "# Guide", "Guide", "Guide > Install",
    ]  # fmt: skip
    assert all(DOCUMENT["text"][c["start"] : c["end"]] == c["text"] for c in chunks)
    assert embedded_text(chunks[1], recipe()) == chunks[1]["text"]


def test_small_chunks_name_their_parents() -> None:
    kinds = {"kind": "small_to_big", "small": {"kind": "sentence", "max_chars": 12}}
    found = cut(recipe(chunker={**kinds, "big": "markdown"}), DOCUMENT)
    parents = {parent["id"]: parent for parent in found.parents}
    assert len(parents) == len(found.parents) == 3 < len(found.chunks)
    assert {chunk["parent_id"] for chunk in found.chunks} == parents.keys()
    assert not {chunk["id"] for chunk in found.chunks} & parents.keys()
    for parent in found.parents:
        assert DOCUMENT["text"][parent["start"] : parent["end"]] == parent["text"]
    for chunk in found.chunks:
        around = parents[chunk["parent_id"]]
        assert around["start"] <= chunk["start"] < chunk["end"] <= around["end"]
        assert around["meta"]["headings"] == chunk["meta"]["headings"]


def test_what_a_store_has_is_described() -> None:
    rows = [
        {"author": "Lee", "date": "2024-01-31", "page": 1, "tags": ["a", "b"], "draft": True},
        {"author": "Lee", "date": "2024-02-01T10:00:00Z", "page": 2.5, "tags": "a", "odd": 1},
        {"author": "Kim", "date": "2023-01-01", "odd": "x", "code": "2024-01-01"},
    ]
    described = Described({"code": "string"})
    for number, meta in enumerate(rows):
        for _ in range(2):  # two chunks of each document count once
            described.add({"document_id": str(number), "meta": meta})  # type: ignore[typeddict-item]
    found = described.row()["fields"]
    assert list(found) == sorted(found)
    assert found["author"] == {
        "type": "string", "documents": 3, "distinct": 2, "values": ["Lee", "Kim"],
    }  # fmt: skip
    assert (found["date"]["min"], found["date"]["max"]) == ("2023-01-01", "2024-02-01T10:00:00Z")
    assert {name: each["type"] for name, each in found.items()} == {
        "author": "string", "date": "date", "page": "number", "tags": "list", "draft": "boolean",
        "odd": "mixed", "code": "string",
    }  # fmt: skip
    assert found["tags"]["values"] == ["a", "b"] and found["page"]["max"] == 2.5
    parse("author = 'lee' and date >= 2024 and tags = 'a' and draft = true", found)


HOSTILE = {
    "aliases.md": "---\na: &a [x]\nb: *a\n---\ntext here that is long enough\n",
    "object.md": "---\na: !!python/object/apply:os.system [echo]\n---\ntext here, long enough\n",
    "list.md": "---\n- a\n- b\n---\ntext here that is long enough\n",
    "deep.md": f"---\na: {'[' * 3000}{']' * 3000}\n---\ntext here that is long enough\n",
    "binary.md": "---\na: !!binary aGk=\n2024-01-01: [1, 2]\n? [b]\n: c\n---\ntext, long enough\n",
    "surrogate.md": '---\na: "\\ud800"\n"\\ud801": b\n---\ntext here that is long enough\n',
    "huge.md": f"---\na: 1{'0' * 400}\nb: .inf\nc: 0001-01-01T00:00:00+14:00\n---\ntext, enough\n",
}


def test_hostile_front_matter_harms_nothing(tmp_path: Path) -> None:
    for name, text in HOSTILE.items():
        (tmp_path / name).write_text(text)
    documents, dropped = read(recipe(source=str(tmp_path), cleaners=[]), {})
    assert len(documents) == len(HOSTILE) and not dropped
    described = Described()
    for document in documents:
        for chunk in cut(recipe(), document).chunks:
            described.add(chunk)
    json.dumps([documents, described.row()], allow_nan=False).encode()
    json.dumps(documents, ensure_ascii=False).encode()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
    | st.dates() | st.datetimes() | st.datetimes(timezones=st.timezones()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=8,
)  # fmt: skip


@given(
    meta=st.dictionaries(st.text() | st.sampled_from(["date", "page", "title"]), VALUES),
    kind=st.sampled_from(["string", "number", "date", "boolean", "list"]),
)
@settings(max_examples=200)
def test_any_front_matter_becomes_json_that_is_described(meta: dict[str, Any], kind: str) -> None:
    types = dict.fromkeys(list(meta)[:1], kind)
    found, _ = of_document(metadata(types=types), "a.md", meta)
    json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
    described = Described(types)
    document: Any = {**DOCUMENT, "meta": {**found, "headed": False, "paged": False}}
    for chunk in cut(recipe(), document).chunks:
        described.add(chunk)
    json.dumps(described.row(), allow_nan=False)
