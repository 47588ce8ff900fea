"""Hashing and comparing texts as bytes: the NumPy kernels, and the choice of the compiled ones.

All texts lie in one UTF-8 buffer; no Python object is made per word or shingle. A byte's class says
what it is (see `byte_classes`); a run of bytes is a unit (a word, or a character), its hash is
`mix(sum(code[i] * BASE**i))`, and n units are joined by a second polynomial. Every operation is
integer arithmetic modulo 2**64, so `kernels_numba` gives the same bits.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from llmctl.data.threads import mapped

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]
Ids = NDArray[np.int64]
Floats = NDArray[np.float64]

BASE, MULT = 0x100000001B3, 0x9E3779B97F4A7C15
SEED = np.uint64(0xCBF29CE484222325)
BAND_SEED = 0x2545F4914F6CDD1D
SET_SHIFT = np.uint64(11)
"""A set keeps 53 bits of a shingle's hash: 11 bits are left for the pair's number."""
GROUP = 1 << 11
CHUNK = 1 << 20
SYMBOLS = b"+-*/%=<>^|~$#@&\\"
SPACES = re.compile(rb"  +")


@dataclass(frozen=True)
class Buffer:
    """Texts in one byte array: text i is `data[offsets[i]:offsets[i + 1]]`, with a newline."""

    data: Bytes
    offsets: Ids

    @classmethod
    def of(cls, texts: Iterable[bytes]) -> Buffer:
        """Join encoded texts."""
        parts = list(texts)
        sizes = np.fromiter((len(p) + 1 for p in parts), np.int64, len(parts))
        joined = b"\n".join([*parts, b""])
        return cls(np.frombuffer(joined, np.uint8), bounds(sizes))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def sizes(self, ids: Ids) -> Ids:
        """Bytes of some texts."""
        return self.offsets[ids + 1] - self.offsets[ids]

    def part(self, ids: Ids) -> tuple[Bytes, Ids]:
        """Some texts one after the other, and their offsets; neighbours are not copied."""
        if not len(ids):
            return self.data[:0], np.zeros(1, np.int64)
        first, last = int(ids[0]), int(ids[-1]) + 1
        if last - first == len(ids) and (np.diff(ids) == 1).all():
            offsets = self.offsets[first : last + 1]
            return self.data[offsets[0] : offsets[-1]], offsets - offsets[0]
        view = memoryview(self.data)  # type: ignore[arg-type]
        begins, ends = self.offsets[ids], self.offsets[ids + 1]
        spans = zip(begins.tolist(), ends.tolist(), strict=True)
        data = b"".join([view[begin:end] for begin, end in spans])
        return np.frombuffer(data, np.uint8), bounds(ends - begins)


class Source(Protocol):
    """Texts as bytes, wherever they lie."""

    def sizes(self, ids: Ids) -> Ids:
        """Bytes of some texts."""

    def part(self, ids: Ids) -> tuple[Bytes, Ids]:
        """Some texts one after the other, and their offsets."""


@dataclass(frozen=True)
class Shape:
    """What a shingle is: `n` units; `classes` and `codes` per byte value."""

    n: int
    classes: Bytes
    codes: Bytes


def byte_classes(*, characters: bool, symbols: bool) -> Bytes:
    """Class of each byte: 0 separator, 1 continues or starts a unit, 2 starts one, 3 is one."""
    classes = np.zeros(256, np.uint8)
    for byte in range(128):
        if chr(byte).isalnum() or byte == ord("_"):
            classes[byte] = 3 if characters else 1
    classes[0x80:] = 1
    if characters:
        classes[0xC0:] = 2
    if symbols:
        classes[list(SYMBOLS)] = 3
    return classes


def shape(n: int, *, characters: bool = False, symbols: bool = False, case: bool = True) -> Shape:
    """The shingles of a method; `case` folds ASCII letters (others are folded before)."""
    codes = np.arange(256, dtype=np.uint8)
    if case:
        codes[65:91] += 32
    return Shape(n, byte_classes(characters=characters, symbols=symbols), codes)


@dataclass(frozen=True)
class Plain:
    """What counts in a text that is compared whole: each byte's form, and the bytes of gaps."""

    table: bytes
    """The 256 bytes as they are compared; gaps are spaces."""
    gaps: NDArray[np.bool_]
    """A run of these is one space."""
    strip: bool
    """Whether gaps at the ends count for nothing."""


def mix(x: Words) -> Words:
    """splitmix64's finalizer."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def bounds(sizes: NDArray[Any]) -> Ids:
    """Where each of some parts begins, and where the last one ends."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes, dtype=np.int64)])


LETTERS: Words = np.where(
    byte_classes(characters=False, symbols=False) != 0,
    mix(shape(1).codes.astype(np.uint64) + SEED),
    np.uint64(0),
)
"""What each byte adds to a text's number in Kernel.letters: a letter by itself, others nothing."""


@lru_cache(4)
def powers(size: int) -> tuple[Words, Words]:
    """BASE**i and BASE**-i modulo 2**64 for i in 0..size."""
    up = np.full(size + 1, BASE, np.uint64)
    down = np.full(size + 1, pow(BASE, -1, 2**64), np.uint64)
    up[0] = down[0] = 1
    return np.cumprod(up, dtype=np.uint64), np.cumprod(down, dtype=np.uint64)


def _units(data: Bytes, form: Shape) -> tuple[Words, Ids, Ids]:
    """Hashes of the units of `data`, where each starts and where it stops."""
    kind = form.classes[data]
    before = np.concatenate([np.zeros(1, np.uint8), kind[:-1]])
    start = (kind != 0) & ((kind >= 2) | (before == 0) | (before == 3))
    stop = (before != 0) & (start | (kind == 0))
    starts, stops = np.flatnonzero(start), np.flatnonzero(stop)
    if len(stops) < len(starts):  # the last unit touches the end
        stops = np.append(stops, len(data))
    up, down = powers(1 << max(12, (len(data)).bit_length()))
    code = np.where(kind != 0, form.codes[data], 0).astype(np.uint64)
    total = np.zeros(len(data) + 1, np.uint64)
    np.cumsum(code * up[: len(data)], out=total[1:])
    return mix((total[stops] - total[starts]) * down[starts] + SEED), starts, stops


def _segments(data: Bytes, form: Shape) -> Iterator[tuple[int, int]]:
    """Cut at separators, so that a very long text does not need tables of its length."""
    first = 0
    while len(data) - first > 2 * CHUNK:
        gaps = np.flatnonzero(form.classes[data[first + CHUNK : first + 2 * CHUNK]] == 0)
        if not len(gaps):
            break
        last = first + CHUNK + int(gaps[0])
        yield first, last
        first = last
    yield first, len(data)


def units_of(data: Bytes, form: Shape) -> tuple[Words, Ids, Ids]:
    """Hashes of the units of a text of any length, where each starts and where it stops."""
    parts = []
    for first, last in _segments(data, form):
        units, starts, stops = _units(data[first:last], form)
        parts.append((units, starts + first, stops + first))
    hashed, starts, stops = (np.concatenate(each) for each in zip(*parts, strict=True))
    return hashed, starts, stops


def windows(units: Words, n: int) -> Words:
    """Hashes of every n neighbouring units, shape (units - n + 1,), for a large n."""
    if len(units) < n:
        return np.empty(0, np.uint64)
    up, down = powers(1 << max(12, len(units).bit_length()))
    total = np.zeros(len(units) + 1, np.uint64)
    np.cumsum(units * up[: len(units)], out=total[1:])
    return mix((total[n:] - total[:-n]) * down[: len(units) - n + 1])


def shingles(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids, Ids]:
    """Hashes of the n-unit shingles of texts, their CSR offsets, and the units of each text.

    A text of fewer than n units is one shingle of what it has; one without units has hash mix(0).
    """
    units, starts, _ = units_of(data, form)
    begin = np.searchsorted(starts, offsets).astype(np.int64)
    counts = np.diff(begin)
    pointer = bounds(np.maximum(counts - form.n + 1, 1))
    out = np.empty(pointer[-1], np.uint64)
    short = np.flatnonzero(counts < form.n)
    is_long = np.ones(len(out), bool)
    is_long[pointer[short]] = False
    multiplier = np.uint64(MULT)
    if len(units) >= form.n:
        size = len(units) - form.n + 1
        rolling = np.zeros(size, np.uint64)
        for i in range(form.n):
            rolling = rolling * multiplier + units[i : size + i]
        ends = np.repeat(begin[1:], counts)[:size]
        out[is_long] = mix(rolling[np.arange(size) + form.n <= ends])
    rest = np.zeros(len(short), np.uint64)
    for i in range(form.n - 1):
        has = counts[short] > i
        rest[has] = rest[has] * multiplier + units[begin[short[has]] + i]
    out[pointer[short]] = mix(rest + counts[short].astype(np.uint64))
    return out, pointer, counts


def permutations(count: int, seed: int) -> tuple[NDArray[np.uint32], NDArray[np.uint32]]:
    """Multipliers (odd) and offsets of `count` permutations of 32-bit numbers."""
    random = np.random.default_rng(seed)
    a = random.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32) | np.uint32(1)
    return a, random.integers(0, 2**32, count, dtype=np.uint64).astype(np.uint32)


def _sign(data: Bytes, offsets: Ids, form: Shape, a: Any, b: Any) -> tuple[Any, Ids]:
    values, pointer, counts = shingles(data, offsets, form)
    high = (values >> np.uint64(32)).astype(np.uint32)
    signature = np.empty((len(offsets) - 1, len(a)), np.uint32)
    for p in range(len(a)):
        signature[:, p] = np.minimum.reduceat(high * a[p] + b[p], pointer[:-1])
    return signature, counts


def _sets(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids]:
    values, pointer, _ = shingles(data, offsets, form)
    return set_of_each(values, np.diff(pointer))


def set_of_each(values: Words, sizes: Ids) -> tuple[Words, Ids]:
    """Sorted distinct 53-bit shingle hashes of at most GROUP texts, and how many each has."""
    number = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
    key = (number << np.uint64(53)) | (values >> SET_SHIFT)
    key.sort()
    key = key[np.append(True, key[1:] != key[:-1])[: len(key)]]
    distinct = np.bincount((key >> np.uint64(53)).astype(np.int64), minlength=len(sizes))
    return key & np.uint64(2**53 - 1), distinct.astype(np.int64)


def _grams(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids]:
    """53-bit shingle hashes of texts in their order, and how many each has."""
    values, pointer, _ = shingles(data, offsets, form)
    return values >> SET_SHIFT, np.diff(pointer)


def _letter_sums(data: Bytes, offsets: Ids) -> Words:
    if len(offsets) == 2:  # one text, which may be of any length
        parts = (LETTERS[data[at : at + CHUNK]].sum() for at in range(0, len(data), CHUNK))
        return np.array([sum(map(int, parts)) % 2**64], np.uint64)
    sums: Words = np.add.reduceat(LETTERS[data], offsets[:-1])
    return sums


def _digests(data: Bytes, offsets: Ids, form: Plain) -> Words:
    """BLAKE2b of each text; runs of gaps are spaces after the table."""
    found, view = bytearray(), memoryview(data)  # type: ignore[arg-type]
    for begin, end in zip(offsets[:-1].tolist(), (offsets[1:] - 1).tolist(), strict=True):
        text = bytes(view[begin:end]).translate(form.table)
        if form.gaps.any():
            text = SPACES.sub(b" ", text)
        found += blake2b(text.strip(b" ") if form.strip else text, digest_size=16).digest()
    return np.frombuffer(bytes(found), np.uint64).reshape(-1, 2)


def _bands(signature: NDArray[np.uint32], bands: int, rows: int) -> tuple[Words, Words]:
    """The key of each text in each band, shape (bands, texts), and a hash of all."""
    columns = signature.T.astype(np.uint64)
    keys = np.empty((bands, columns.shape[1]), np.uint64)
    whole = np.zeros(columns.shape[1], np.uint64)
    for band in range(bands):
        h = np.full(columns.shape[1], BAND_SEED, np.uint64)
        for column in range(band * rows, (band + 1) * rows):
            h = mix((h ^ columns[column]) * np.uint64(MULT))
        keys[band] = h
        whole = mix(whole * np.uint64(MULT) ^ h)
    return keys, whole


def _neighbours(keys: Words, rows: Ids, place: Ids) -> tuple[Ids, Ids]:
    """In groups of equal keys: neighbours and first ones, by place and by number."""
    by_key = np.argsort(keys)
    same = np.diff(keys[by_key]) == 0
    shared = (np.append(same, False) | np.append(False, same))[: len(keys)]
    group = np.cumsum(np.append(True, ~same)[: len(keys)])[shared]
    ids = rows[by_key[shared]].astype(np.int64)
    return _pairs(group, ids, place[ids], len(place)), _pairs(group, ids, ids, len(place))


def _pairs(group: Ids, ids: Ids, place: Ids, total: int) -> Ids:
    """Of rows of the same group: neighbours by place, and each with the first, as x * total + y."""
    order = np.argsort(group * total + place)
    group, ids = group[order], ids[order]
    same = np.diff(group) == 0
    at = np.arange(len(ids))
    head = np.maximum.accumulate(np.where(np.append(True, ~same)[: len(ids)], at, 0))
    left, right, first = ids[:-1][same], ids[1:][same], ids[head[1:]][same]
    far = first != left
    x, y = np.append(left, first[far]), np.append(right, right[far])
    pairs: Ids = np.minimum(x, y) * total + np.maximum(x, y)
    return pairs


def _greedy(x: Ids, y: Ids, score: Floats, rows: int, fixed: int) -> tuple[Ids, Floats]:
    twins, best = np.full(rows, -1, np.int64), np.zeros(rows)
    twin, known = memoryview(twins), memoryview(best)  # type: ignore[arg-type]
    for first in range(0, len(x), 1 << 18):
        part = slice(first, first + (1 << 18))
        for i, j, s in zip(x[part].tolist(), y[part].tolist(), score[part].tolist(), strict=True):
            if twin[i] < 0 and s > known[j] and (i < fixed or not 0 <= twin[j] < fixed):
                twin[j], known[j] = i, s
    return twins, best


def _jaccard(flat: Words, pointer: Ids, x: Ids, y: Ids) -> Floats:
    """Jaccard of pairs: both sets tagged with the pair's number and sorted; equals touch."""
    size, out = np.diff(pointer), np.empty(len(x))
    for at in range(0, len(x), GROUP):
        left, right = x[at : at + GROUP], y[at : at + GROUP]
        keys = []
        for side in (left, right):
            begin = bounds(size[side])
            where = np.repeat(pointer[side] - begin[:-1], size[side]) + np.arange(begin[-1])
            tag = np.repeat(np.arange(len(left), dtype=np.uint64) << np.uint64(53), size[side])
            keys.append(tag | flat[where])
        merged = np.concatenate(keys)
        merged.sort()
        equal = merged[1:][merged[1:] == merged[:-1]]
        both = np.bincount((equal >> np.uint64(53)).astype(np.int64), minlength=len(left))
        out[at : at + GROUP] = both / (size[left] + size[right] - both)
    return out


@dataclass(frozen=True)
class Kernel:
    """The inner loops; `name` is `numpy` or `numba`, and both give equal bits."""

    name: str
    sign: Callable[[Bytes, Ids, Shape, Any, Any], tuple[Any, Ids]]
    sets: Callable[[Bytes, Ids, Shape], tuple[Words, Ids]]
    grams: Callable[[Bytes, Ids, Shape], tuple[Words, Ids]]
    jaccard: Callable[[Words, Ids, Ids, Ids], Floats]
    bands: Callable[[NDArray[np.uint32], int, int], tuple[Words, Words]]
    neighbours: Callable[[Words, Ids, Ids], tuple[Ids, Ids]]
    """Pairs of some rows whose keys are equal, as x * all rows + y with x < y, in any order.

    Neighbours in a group, and each with the group's first: by the `place` that each of all rows
    has in an order, and by the rows' own numbers. Linear in the size of a group.
    """
    greedy: Callable[[Ids, Ids, Floats, int, int], tuple[Ids, Floats]]
    """Of pairs x < y by rising y, then x: the kept row that each row repeats most, or -1.

    And how alike they are. Rows below a bound are named before all others.
    """
    letters: Callable[[Bytes, Ids], Words]
    """A number for each text that depends on its letters only, whatever stands between them."""
    digests: Callable[[Bytes, Ids, Plain], Words]
    """128 bits of each text, shape (texts, 2), equal for texts that are the same in plain form.

    Which bits they are depends on the kernel, and the compiled one's on the process.
    """


NUMPY = Kernel(
    "numpy", _sign, _sets, _grams, _jaccard, _bands, _neighbours, _greedy, _letter_sums, _digests
)


def kernel(name: str = "auto") -> Kernel:
    """The kernel of that name; `auto` is numba where it is installed."""
    if name != "numpy":
        try:
            from llmctl.data.kernels_numba import NUMBA

            return NUMBA
        except ImportError:
            if name == "numba":
                from llmctl.errors import MissingError, install_hint

                raise MissingError(f"kernel: numba is not there: {install_hint('fast')}") from None
    return NUMPY


def narrow(numbers: NDArray[Any], below: int) -> NDArray[Any]:
    """Numbers below a bound, in half the memory where they fit."""
    return numbers.astype(np.int32) if below < 2**31 else numbers


def cuts(sizes: NDArray[Any], most: int) -> list[tuple[int, int]]:
    """Ranges of about CHUNK bytes and at most `most` texts each."""
    ends, first, cuts = np.cumsum(sizes), 0, []
    while first < len(sizes):
        before = int(ends[first - 1]) if first else 0
        last = int(np.searchsorted(ends, before + CHUNK, "right"))
        last = min(max(last, first + 1), first + most, len(sizes))
        cuts.append((first, last))
        first = last
    return cuts


def allocated(shape: tuple[int, ...], kind: type[Any], file: Path | None) -> NDArray[Any]:
    """An array without values, in a file when one is given."""
    if file is None or 0 in shape:
        return np.empty(shape, kind)
    return np.memmap(file, kind, "w+", shape=shape)


def shingle_sets(
    source: Source,
    form: Shape,
    ids: Ids,
    use: Kernel,
    threads: int = 1,
    room: float = 0,
    label: str = "",
) -> tuple[Words, Ids]:
    """The shingle sets of the texts `ids`, as CSR; behind them `room` times as much is free."""
    sizes = source.sizes(ids)

    def work(cut: tuple[int, int]) -> tuple[Words, Ids]:
        return use.sets(*source.part(ids[cut[0] : cut[1]]), form)

    parts = mapped(work, cuts(sizes, GROUP), threads, label)
    pointer = bounds(np.concatenate([np.empty(0, np.int64), *(counts for _, counts in parts)]))
    flat = np.empty(int(pointer[-1] * (1 + room)), np.uint64)
    places = bounds(np.array([len(values) for values, _ in parts], np.int64)).tolist()

    def put(part: int) -> None:
        flat[places[part] : places[part + 1]] = parts[part][0]

    mapped(put, list(range(len(parts))), threads)
    return flat, pointer


def grams(buffer: Buffer, form: Shape, use: Kernel, threads: int = 1) -> tuple[Words, Ids]:
    """53-bit shingle hashes of all texts in their order, as CSR."""

    def work(cut: tuple[int, int]) -> tuple[Words, Ids]:
        offsets = buffer.offsets[cut[0] : cut[1] + 1]
        return use.grams(buffer.data[offsets[0] : offsets[-1]], offsets - offsets[0], form)

    parts = mapped(work, cuts(np.diff(buffer.offsets), GROUP), threads)
    if not parts:
        return np.empty(0, np.uint64), np.zeros(1, np.int64)
    flat = np.concatenate([values for values, _ in parts])
    return flat, bounds(np.concatenate([counts for _, counts in parts]))


def jaccard(
    flat: Words, pointer: Ids, x: Ids, y: Ids, use: Kernel, threads: int = 1, label: str = ""
) -> Floats:
    """Exact Jaccard of the pairs (x, y) of sets."""
    cuts = [(at, min(at + GROUP, len(x))) for at in range(0, len(x), GROUP)]
    parts = mapped(
        lambda c: use.jaccard(flat, pointer, x[c[0] : c[1]], y[c[0] : c[1]]), cuts, threads, label
    )
    return np.concatenate(parts) if parts else np.empty(0)
