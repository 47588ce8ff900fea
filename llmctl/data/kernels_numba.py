"""The kernels of `kernels`, compiled: the same bits, several times faster (extra `fast`)."""

from __future__ import annotations

import os
from typing import Any

import numba as nb
import numpy as np

from llmctl.data import compiling
from llmctl.data.kernels import (
    BAND_SEED,
    BASE,
    LETTERS,
    MULT,
    SET_SHIFT,
    Bytes,
    Floats,
    Ids,
    Kernel,
    Plain,
    Shape,
    Words,
    powers,
    set_of_each,
)

compiling.announce()
U = nb.uint64
_BASE, _MULT, _SEED = np.uint64(BASE), np.uint64(MULT), np.uint64(0xCBF29CE484222325)
_BAND_SEED = np.uint64(BAND_SEED)
SHORT = 1 << 16
"""Bytes of a text that is hashed without branches, by tables of this many powers."""
LANES = 8
"""Shingles of a text that are permuted together."""
FEW = 32
"""Rows of a group that are sorted by insertion."""
KEYS: Words = np.frombuffer(os.urandom(16), np.uint64)
"""Of the digests: nobody can write two texts that have the same without knowing them."""


@nb.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _mix(x: Any) -> Any:
    x ^= x >> U(30)
    x *= U(0xBF58476D1CE4E5B9)
    x ^= x >> U(27)
    x *= U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _units(data: Any, classes: Any, codes: Any, tables: Any, work: Any, out: Any) -> Any:
    """Hash the units of a text of fewer than SHORT bytes into `out`; returns how many.

    Places are written whether or not a unit begins there and counted on only if one does: a
    branch that cannot be foretold costs more than all of this.
    """
    up, down, steps = tables
    begin, first, last = work
    total, begun, ended, before = U(0), 0, 0, 0
    for i in range(data.shape[0]):
        kind = classes[data[i]]
        step = steps[before * 4 + kind]
        begin[begun], first[begun], last[ended] = i, total, total
        begun += step & 1
        ended += step >> 1
        total += U(codes[data[i]]) * up[i]
        before = nb.int64(kind)
    last[ended] = total
    for k in range(begun):
        out[k] = _mix((last[k] - first[k]) * down[begin[k]] + _SEED)
    return begun


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _join(units: Any, count: Any, n: Any, out: Any) -> Any:
    """Hashes of the shingles of n of the `count` units; returns how many."""
    if count < n:
        rolling = U(0)
        for i in range(count):
            rolling = rolling * _MULT + units[i]
        out[0] = _mix(rolling + U(count))
        return 1
    size = count - n + 1
    for i in range(size):
        out[i] = units[i]
    for k in range(1, n):
        for i in range(size):
            out[i] = out[i] * _MULT + units[i + k]
    for i in range(size):
        out[i] = _mix(out[i])
    return size


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _join_long(data: Any, classes: Any, codes: Any, ring: Any, out: Any) -> Any:
    """The same for a text of any length, unit by unit; returns (shingles, units)."""
    n = ring.shape[0]
    power = U(1)
    for _ in range(n):
        power *= _MULT
    h, scale, rolling = U(0), U(1), U(0)
    units, count, inside, before = 0, 0, False, nb.uint8(0)
    for i in range(data.shape[0] + 1):
        kind = classes[data[i]] if i < data.shape[0] else nb.uint8(0)
        if inside and (kind == 0 or kind >= 2 or before == 3):
            w = _mix(h + _SEED)
            slot = units % n
            old = ring[slot] if units >= n else U(0)
            rolling = rolling * _MULT + w - old * power
            ring[slot] = w
            units += 1
            if units >= n:
                out[count] = _mix(rolling)
                count += 1
            h, scale, inside = U(0), U(1), False
        if kind:
            h += U(codes[data[i]]) * scale
            scale *= _BASE
            inside = True
        before = kind
    if units < n:
        out[0] = _mix(rolling + U(units))
        count = 1
    return count, units


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _room(n: Any) -> Any:
    """Where the units of a text are worked on, see `_shingles`."""
    return (
        np.empty(SHORT + 1, dtype=np.int64),
        np.empty(SHORT + 1, dtype=np.uint64),
        np.empty(SHORT + 1, dtype=np.uint64),
    ), np.empty(max(n, SHORT + 1), dtype=np.uint64)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shingles(text: Any, classes: Any, codes: Any, n: Any, tables: Any, room: Any, out: Any) -> Any:
    """Shingles of a text; returns (how many, its units)."""
    work, units = room
    if text.shape[0] < SHORT:
        count = _units(text, classes, codes, tables, work, units)
        return _join(units, count, n, out), count
    return _join_long(text, classes, codes, units[:n], out)


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _grams(data: Any, offsets: Any, classes: Any, codes: Any, n: int, tables: Any) -> Any:
    """Shingles of all texts one after the other, how many each has, and its units."""
    texts = offsets.shape[0] - 1
    flat = np.empty(data.shape[0] + texts, dtype=np.uint64)
    sizes, counts = np.empty(texts, dtype=np.int64), np.empty(texts, dtype=np.int64)
    room, at = _room(n), 0
    for d in range(texts):
        text = data[offsets[d] : offsets[d + 1]]
        sizes[d], counts[d] = _shingles(text, classes, codes, n, tables, room, flat[at:])
        at += sizes[d]
    return flat[:at], sizes, counts


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _lowest(shingles: Any, a: Any, b: Any, high: Any, signature: Any) -> Any:
    """The least value of each permutation of the upper halves of a text's shingles.

    The inner loop is unrolled, the one around it is vectorised: no rest and no sum over lanes for
    each permutation, which would cost more than the work in a text of usual length.
    """
    size = shingles.shape[0]
    for s in range(size):
        high[s] = nb.uint32(shingles[s] >> U(32))
    high[size : size + LANES] = high[0]  # what is there twice changes no minimum
    signature[:] = nb.uint32(0xFFFFFFFF)
    for s in range(0, size, LANES):
        part = high[s : s + LANES]
        for p in range(a.shape[0]):
            multiplier, offset, low = a[p], b[p], signature[p]
            for k in range(LANES):
                low = min(low, nb.uint32(multiplier * part[k] + offset))
            signature[p] = low


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _signatures(
    data: Any, offsets: Any, classes: Any, codes: Any, n: int, tables: Any, a: Any, b: Any
) -> Any:
    """Signatures of all texts, and the units of each."""
    texts = offsets.shape[0] - 1
    signature = np.empty((texts, a.shape[0]), dtype=np.uint32)
    counts = np.empty(texts, dtype=np.int64)
    longest = 0
    for d in range(texts):
        longest = max(longest, offsets[d + 1] - offsets[d])
    out = np.empty(longest + 1, dtype=np.uint64)
    high = np.empty(longest + 1 + LANES, dtype=np.uint32)
    room = _room(n)
    for d in range(texts):
        text = data[offsets[d] : offsets[d + 1]]
        size, counts[d] = _shingles(text, classes, codes, n, tables, room, out)
        _lowest(out[:size], a, b, high, signature[d])
    return signature, counts


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _bands(signature: Any, bands: int, rows: int) -> Any:
    texts = signature.shape[0]
    keys, whole = np.empty((bands, texts), np.uint64), np.zeros(texts, np.uint64)
    for d in range(texts):
        for band in range(bands):
            h = _BAND_SEED
            for column in range(band * rows, (band + 1) * rows):
                h = _mix((h ^ U(signature[d, column])) * _MULT)
            keys[band, d] = h
            whole[d] = _mix((whole[d] * _MULT) ^ h)
    return keys, whole


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _arrange(values: Any, ids: Any) -> None:
    """Sort the rows of a group, which is mostly small, by their values."""
    if ids.shape[0] > FEW:
        order = np.argsort(values)
        values[:], ids[:] = values[order], ids[order]
        return
    for i in range(1, ids.shape[0]):
        value, row, at = values[i], ids[i], i
        while at > 0 and values[at - 1] > value:
            values[at], ids[at] = values[at - 1], ids[at - 1]
            at -= 1
        values[at], ids[at] = value, row


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _put(ids: Any, total: Any, out: Any) -> None:
    """The pairs of a group's rows: each with the one before it and, if that is another, the first.

    As many as 2 * rows - 3.
    """
    out[0] = min(ids[0], ids[1]) * total + max(ids[0], ids[1])
    for i in range(2, ids.shape[0]):
        out[2 * i - 3] = min(ids[i - 1], ids[i]) * total + max(ids[i - 1], ids[i])
        out[2 * i - 2] = min(ids[0], ids[i]) * total + max(ids[0], ids[i])


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _pairs(keys: Any, by_key: Any, rows: Any, place: Any, by_place: Any, by_number: Any) -> Any:
    """Both kinds of pairs of the rows with equal keys; returns how many there are of each."""
    size, total, made, first = keys.shape[0], place.shape[0], 0, 0
    ids, values = np.empty((2, size), dtype=np.int64)
    while first < size:
        last, key = first + 1, keys[by_key[first]]
        while last < size and keys[by_key[last]] == key:
            last += 1
        if last - first > 1:
            for i in range(first, last):
                ids[i] = values[i] = rows[by_key[i]]
            group, value = ids[first:last], values[first:last]
            _arrange(value, group)
            _put(group, total, by_number[made:])
            if last - first > 2:
                for i in range(first, last):
                    values[i] = place[ids[i]]
                _arrange(value, group)
            _put(group, total, by_place[made:])
            made += 2 * (last - first) - 3
        first = last
    return made


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _decide(x: Any, y: Any, score: Any, fixed: Any, twin: Any, best: Any) -> None:
    """Name the best kept twin of each row; every x stands before its y and is decided."""
    for k in range(x.shape[0]):
        i, j = x[k], y[k]
        if twin[i] < 0 and score[k] > best[j] and (i < fixed or not 0 <= twin[j] < fixed):
            twin[j], best[j] = i, score[k]


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _letters(data: Any, offsets: Any, table: Any) -> Any:
    out = np.empty(offsets.shape[0] - 1, dtype=np.uint64)
    for d in range(out.shape[0]):
        total = U(0)
        for byte in data[offsets[d] : offsets[d + 1]]:
            total += table[byte]
        out[d] = total
    return out


@nb.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _taken(state: Any, byte: Any) -> Any:
    """The state (two hashes, the bytes that wait for them, how many came) after one byte more."""
    one, two, word, size = state
    word = (word << U(8)) | U(byte)
    size += 1
    if size % 8 == 0:
        one, two = _mix(one ^ word) * _MULT, _mix(two + word) * _BASE
    return one, two, word, size


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _digests(data: Any, offsets: Any, table: Any, gaps: Any, strip: Any, keys: Any) -> Any:
    """Two keyed hashes of each text in its plain form."""
    out = np.empty((offsets.shape[0] - 1, 2), dtype=np.uint64)
    for d in range(out.shape[0]):
        state = keys[0], keys[1], U(0), 0
        gap, begun = False, not strip
        for byte in data[offsets[d] : offsets[d + 1] - 1]:
            if gaps[byte]:
                gap = begun
            else:
                if gap:
                    state = _taken(state, 32)
                state = _taken(state, table[byte])
                gap, begun = False, True
        if gap and not strip:
            state = _taken(state, 32)
        one, two, word, size = state
        rest = word & ((U(1) << U(8 * (size % 8))) - U(1))
        out[d, 0] = _mix(one ^ rest ^ _mix(U(size)))
        out[d, 1] = _mix(two + rest + _mix(U(size)))
    return out


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _jaccard(flat: Any, pointer: Any, x: Any, y: Any) -> Any:
    out = np.empty(x.shape[0], dtype=np.float64)
    for k in range(x.shape[0]):
        i, i_end, j, j_end = pointer[x[k]], pointer[x[k] + 1], pointer[y[k]], pointer[y[k] + 1]
        size = (i_end - i) + (j_end - j)
        both = 0
        while i < i_end and j < j_end:
            if flat[i] == flat[j]:
                both += 1
                i += 1
                j += 1
            elif flat[i] < flat[j]:
                i += 1
            else:
                j += 1
        out[k] = both / (size - both)
    return out


def _tables(form: Shape) -> Any:
    """Powers, and for each pair of neighbouring classes: 1 a unit begins, 2 one ends."""
    steps = np.zeros(16, np.int64)
    for before in range(4):
        for kind in range(4):
            begins = kind != 0 and (kind >= 2 or before in (0, 3))
            ends = before != 0 and (begins or kind == 0)
            steps[before * 4 + kind] = begins + 2 * ends
    return (*powers(SHORT), steps)


def _fixed(data: Bytes) -> Bytes:
    """As read-only, so that a function is compiled once, wherever the bytes lie."""
    view = data.view()
    view.flags.writeable = False
    return view


def _given(data: Bytes, offsets: Ids, form: Shape) -> Any:
    codes = np.where(form.classes != 0, form.codes, 0).astype(np.uint8)
    return _fixed(data), offsets, form.classes, codes, form.n, _tables(form)


def _sign(data: Bytes, offsets: Ids, form: Shape, a: Any, b: Any) -> tuple[Any, Ids]:
    signature, counts = _signatures(*_given(data, offsets, form), a, b)
    return signature, counts


def _sets(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids]:
    flat, sizes, _ = _grams(*_given(data, offsets, form))
    return set_of_each(flat, sizes)


def _ordered(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids]:
    flat, sizes, _ = _grams(*_given(data, offsets, form))
    return flat >> SET_SHIFT, sizes


def _band_keys(signature: Any, bands: int, rows: int) -> tuple[Words, Words]:
    keys, whole = _bands(signature, bands, rows)
    return keys, whole


def _neighbours(keys: Words, rows: Ids, place: Ids) -> tuple[Ids, Ids]:
    by_place, by_number = np.empty((2, 2 * len(keys)), np.int64)
    made = _pairs(keys, np.argsort(keys), rows, place, by_place, by_number)
    return by_place[:made].copy(), by_number[:made].copy()


def _greedy(x: Ids, y: Ids, score: Floats, rows: int, fixed: int) -> tuple[Ids, Floats]:
    twin, best = np.full(rows, -1, np.int64), np.zeros(rows)
    _decide(x, y, score, fixed, twin, best)
    return twin, best


def _letter_sums(data: Bytes, offsets: Ids) -> Words:
    found: Words = _letters(_fixed(data), offsets, LETTERS)
    return found


def _plain_digests(data: Bytes, offsets: Ids, form: Plain) -> Words:
    table = np.frombuffer(form.table, np.uint8)
    found: Words = _digests(_fixed(data), offsets, table, form.gaps, form.strip, KEYS)
    return found


NUMBA = Kernel(
    "numba",
    _sign,
    _sets,
    _ordered,
    _jaccard,
    _band_keys,
    _neighbours,
    _greedy,
    _letter_sums,
    _plain_digests,
)
