"""Truths of deduplication, each against brute force on small texts."""

from __future__ import annotations

import re
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.data import kernels
from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import SEPARATORS, composed, encoded
from llmctl.data.threads import mapped
from llmctl.data.twins import components

WORDS = ["alpha", "beta", "Gamma", "été", "ÉTÉ", "λ", "日本", "x", "don't", "a-b", "🙂", "हिन्दी"]
TEXT = st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join)
TEXTS = st.lists(st.one_of(TEXT, st.text(max_size=20)), max_size=24)
LOW = Deduper.of({"kind": "minhash", "threshold": 0.5, "ngram": 2})


def found(texts: list[str], method: Deduper = LOW, fixed: int = 0, **more: Any) -> Found:
    rows = Rows(texts, fixed, more.pop("kernel", kernels.NUMPY), **more)
    return method.find(rows, np.ones(len(texts), bool))


def shingle_set(text: str, n: int) -> set[tuple[str, ...]]:
    """The shingles of a text, said again without bytes and hashes."""
    folded = encoded(text, case=True).decode("utf-8", "surrogatepass")
    words = re.findall(r"[^\x00-\x2f\x3a-\x40\x5b-\x5e\x60\x7b-\x7f]+", folded.lower())
    return {tuple(words[i : i + n]) for i in range(max(1, len(words) - n + 1))} if words else set()


@given(texts=TEXTS)
@settings(max_examples=150)
def test_every_dropped_row_has_a_kept_twin_at_the_threshold(texts: list[str]) -> None:
    result = found(texts)
    for i in np.flatnonzero(result.twin >= 0):
        twin = int(result.twin[i])
        a, b = shingle_set(texts[i], 2), shingle_set(texts[twin], 2)
        assert result.twin[twin] < 0
        assert len(a & b) / len(a | b) == pytest.approx(result.score[i])
        assert result.score[i] >= 0.5


@given(texts=TEXTS, fixed=st.integers(0, 5))
@settings(max_examples=150)
@pytest.mark.parametrize("kind", ["exact", "minhash"])
def test_twice_changes_nothing(kind: str, texts: list[str], fixed: int) -> None:
    fixed = min(fixed, len(texts))
    method = LOW if kind == "minhash" else Deduper.of(kind)
    first = found(texts, method, fixed)
    assert (first.twin[:fixed] < 0).all()
    kept = [t for t, twin in zip(texts, first.twin, strict=True) if twin < 0]
    assert (found(kept, method, fixed).twin < 0).all()


@given(texts=TEXTS, random=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_order_does_not_change_which_clusters_exist(texts: list[str], random: Any) -> None:
    order = list(range(len(texts)))
    random.shuffle(order)
    sets = []
    for places in (range(len(texts)), order):
        pairs = found([texts[i] for i in places]).clusters
        label = components(len(texts), pairs.x, pairs.y)
        groups: dict[int, set[int]] = {}
        for at, i in enumerate(places):
            groups.setdefault(int(label[at]), set()).add(i)
        sets.append({frozenset(group) for group in groups.values()})
    assert sets[0] == sets[1]


@given(texts=TEXTS, n=st.integers(1, 6), characters=st.booleans(), symbols=st.booleans())
@settings(max_examples=100)
def test_numba_and_numpy_give_the_same_bits(
    texts: list[str], n: int, characters: bool, symbols: bool
) -> None:
    pytest.importorskip("numba")
    form = kernels.shape(n, characters=characters, symbols=symbols)
    buffer = kernels.Buffer.of(encoded(t, case=True) for t in texts)
    a, b = kernels.permutations(16, 1)
    ids = np.arange(len(texts))
    results = []
    for use in (kernels.NUMPY, kernels.kernel("numba")):
        signed = use.sign(buffer.data, buffer.offsets, form, a, b)
        grams = kernels.grams(buffer, form, use)
        sets = kernels.shingle_sets(buffer, form, ids, use)
        scores = kernels.jaccard(*sets, ids[:-1], ids[1:], use)
        bands = use.bands(signed[0], 5, 3)
        letters = use.letters(buffer.data, buffer.offsets) if texts else ids
        results.append([*signed, *sets, *grams, scores, *bands, letters])
    for one, other in zip(*results, strict=True):
        assert one.dtype == other.dtype
        assert np.array_equal(one, other)


@given(keys=st.lists(st.integers(0, 3), max_size=200), random=st.randoms(use_true_random=False))
@settings(max_examples=100)
def test_rows_of_equal_keys_are_paired_in_both_orders(keys: list[int], random: Any) -> None:
    pytest.importorskip("numba")
    total = 2 * len(keys)
    rows = sorted(random.sample(range(total), len(keys)))
    place = random.sample(range(total), total)
    groups = [[r for r, k in zip(rows, keys, strict=True) if k == key] for key in set(keys)]

    def pairs(order: Any) -> set[int]:
        """Neighbours and the first, said again with lists."""
        named = set()
        for group in groups:
            ids = sorted(group, key=order)
            for i in range(1, len(ids)):
                named |= {tuple(sorted((ids[i - 1], ids[i]))), tuple(sorted((ids[0], ids[i])))}
        return {x * total + y for x, y in named}

    for use in (kernels.NUMPY, kernels.kernel("numba")):
        given_keys = np.array(keys, np.uint64), np.array(rows, np.int32), np.array(place, np.int32)
        by_place, by_number = use.neighbours(*given_keys)
        assert set(by_place.tolist()) == pairs(lambda row: place[row])
        assert set(by_number.tolist()) == pairs(int)
        assert len(by_place) == len(set(by_place.tolist()))
        assert by_place.dtype == by_number.dtype == np.int64


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_items_shared_by_threads_come_back_in_order(threads: int) -> None:
    assert mapped(lambda n: n * n, list(range(100)), threads) == [n * n for n in range(100)]
    assert mapped(lambda n: n, [], threads) == []


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_the_first_item_that_fails_is_the_one_that_is_told(threads: int) -> None:
    both, begun = threading.Event(), list[int]()

    def work(n: int) -> None:
        begun.append(n)
        if n == 6:
            both.set()  # the later one fails first
            raise ValueError("six")
        if n == 5:
            both.wait(0.2)
            raise ValueError("five")

    with pytest.raises(ValueError, match="five"):
        mapped(work, list(range(1000)), threads)
    assert len(begun) < 20, "work goes on after an error"


def test_threads_and_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"w{(i * 7 + j) % 50}" for j in range(40)) for i in range(300)]
    one = found(texts)
    monkeypatch.setattr(kernels, "CHUNK", 256)
    monkeypatch.setattr(kernels, "GROUP", 7)
    for threads in (2, 7):
        two = found(texts, threads=threads)
        assert np.array_equal(one.twin, two.twin)
        assert np.array_equal(one.score, two.score)


def test_more_threads_than_bands() -> None:
    method = Deduper.of({"kind": "minhash", "bands": 1, "rows": 4})
    assert found(["a b c d e f", "x", "a b c d e f"], method, threads=5).twin.tolist() == [
        -1,
        -1,
        0,
    ]


@pytest.mark.parametrize("kind", ["exact", "minhash"])
def test_many_identical_rows_take_no_quadratic_time(kind: str) -> None:
    result = found(["the same row of seven words again"] * 50_000, Deduper.of(kind))
    assert (result.twin[1:] == 0).all()
    assert result.twin[0] == -1


def test_a_template_cluster_is_dropped_against_its_first_row() -> None:
    boilerplate = " ".join(f"word{i}" for i in range(100))
    result = found([f"{boilerplate} number {i}" for i in range(5_000)], Deduper.of("minhash"))
    assert (result.twin[1:] == 0).all()


def test_rows_without_words_are_left_alone_and_short_rows_are_compared_whole() -> None:
    result = found(["", "!!!", "???", "yes", "Yes.", "no", "", "yes yes"], Deduper.of("minhash"))
    assert result.twin.tolist() == [-1, -1, -1, -1, 3, -1, -1, -1]


def test_case_and_composition_fold_in_every_script() -> None:
    texts = ["Été à Λόγος un deux trois", "E\u0301TE\u0301 À ΛΌΓΟΣ UN DEUX TROIS"]
    for kind in ("exact", "minhash"):
        assert found(texts, Deduper.of(kind)).twin.tolist() == [-1, 0]


SIGNS = st.one_of(
    st.characters(codec=None, exclude_categories=()),
    st.characters(min_codepoint=0xA0, max_codepoint=0x30FF),
    st.sampled_from("aZ \u0301\u0345\u3099\u1161\u11a8\uac00\u09be\u212bßİŉΐᾳΣςカ゛ﾞ"),
)


@given(text=st.text(SIGNS, max_size=12), case=st.booleans())
@settings(max_examples=500)
def test_folding_by_character_is_folding_of_the_whole(text: str, case: bool) -> None:
    whole = composed(text, case=case)
    for character in {c for c in whole if c > "\x7f"}:
        whole = whole.replace(character, SEPARATORS[ord(character)])
    form, found = kernels.shape(1, case=case), []
    for data in (encoded(text, case=case), whole.encode("utf-8", "surrogatepass")):
        found.append(kernels.units_of(np.frombuffer(data + b"\n", np.uint8), form)[0].tolist())
    assert found[0] == found[1]


@pytest.mark.parametrize("characters", [False, True])
def test_long_texts_have_the_same_bits(characters: bool) -> None:
    pytest.importorskip("numba")
    texts = ["word " * 20_000, "x" * 70_000, "é+ " * 30_000, "a b", ""]
    buffer = kernels.Buffer.of(encoded(t, case=True) for t in texts)
    for symbols in (False, True):
        form = kernels.shape(3, characters=characters, symbols=symbols)
        a, b = kernels.permutations(16, 1)
        one, other = (
            (
                *use.sign(*buffer.part(np.arange(5)), form, a, b),
                use.letters(buffer.data, buffer.offsets),
            )
            for use in (kernels.NUMPY, kernels.kernel("numba"))
        )
        assert all(np.array_equal(x, y) for x, y in zip(one, other, strict=True))


def test_scripts_without_spaces_are_compared_by_character() -> None:
    text = "東京都は日本の首都であり、世界最大の都市の一つである。人口は約千四百万人です。"
    edited = text.replace("千四百万", "千三百万")
    result = found([text, edited], Deduper.of({"kind": "minhash", "threshold": 0.6}))
    assert result.twin.tolist() == [-1, 0]
    assert result.score[1] < 1


def test_minus_is_not_plus_for_exact() -> None:
    assert (found(["2+3", "2-3"], Deduper.of("exact")).twin < 0).all()


def test_bands_are_solved_for_the_threshold() -> None:
    method: Any = Deduper.of("minhash")
    assert method.banding() == (25, 5)
    assert method.chance(0.8) > 0.9999


def test_a_text_longer_than_every_table() -> None:
    long = "lorem ipsum dolor sit amet " * 200_000 + "x" * 3_000_000
    result = found([long, long + " end", "x" * 3_000_000], Deduper.of("minhash"))
    assert result.twin.tolist() == [-1, 0, -1]


@given(texts=TEXTS, case=st.booleans(), space=st.booleans(), punctuation=st.booleans())
@settings(max_examples=200)
def test_exact_is_the_first_row_of_the_same_folded_text(
    texts: list[str], case: bool, space: bool, punctuation: bool
) -> None:
    method = Deduper.of(
        {
            "kind": "exact",
            "ignore_case": case,
            "ignore_space": space,
            "ignore_punctuation": punctuation,
        }
    )
    texts = texts + [t.swapcase() for t in texts[:4]] + [t.replace(" ", "\n ") for t in texts[:4]]
    texts += [f" {t}" for t in texts[:2]] + [f"{t}-" for t in texts[:2]] + [f"{t}\0" for t in texts]
    first: dict[str, int] = {}
    expected = []
    for i, text in enumerate(texts):
        kept = first.setdefault(method.folded(text), i)  # type: ignore[attr-defined]
        expected.append(kept if kept != i else -1)
    for name in ("numpy", "auto"):
        rows = Rows(texts, 0, kernels.kernel(name))
        assert method.find(rows, np.ones(len(texts), bool)).twin.tolist() == expected
