"""Texts in memory and in files are the same texts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.data.texts import Texts, picked

ANY = st.lists(st.text(st.characters(codec=None, exclude_categories=()), max_size=30), max_size=40)


@given(texts=ANY, data=st.data())
@settings(max_examples=100)
def test_what_is_kept_comes_back(texts: list[str], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file in (None, Path(folder) / "texts"):
            kept = Texts.of(texts, file)
            assert list(kept) == texts and len(kept) == len(texts)
            assert kept[1:-1] == texts[1:-1] and kept[::-2] == texts[::-2]
            order = data.draw(st.permutations(range(len(texts))))
            turned = kept.ordered(np.array(order, np.int64))
            assert list(turned) == [texts[i] for i in order]
            assert [turned[i] for i in range(len(texts))] == list(turned)
            twice = turned.ordered(np.array(order, np.int64))
            assert list(twice) == [texts[order[i]] for i in order]
            places = np.array(order[:5], np.int64)
            assert list(picked(kept, places)) == list(picked(texts, places))


def test_many_texts_in_a_file(tmp_path: Path) -> None:
    texts = [f"{n} " + "x" * (n % 997) for n in range(20_000)]
    kept = Texts.of(texts, tmp_path / "texts")
    assert kept[19_999] == texts[19_999] and kept[-20_000] == texts[0]
    assert sum(map(len, kept)) == sum(map(len, texts))
