"""The kernels of `kernels`, compiled: the same bits, several times faster (extra `fast`)."""

from __future__ import annotations

from typing import Any

import numba as nb
import numpy as np

from llmctl.data.kernels import BASE, MULT, Bytes, Ids, Kernel, Shape, Words

U = nb.uint64
_BASE, _MULT, _SEED = np.uint64(BASE), np.uint64(MULT), np.uint64(0xCBF29CE484222325)


@nb.njit(cache=True, nogil=True, inline="always")  # type: ignore[untyped-decorator, unused-ignore]
def _mix(x: Any) -> Any:
    x ^= x >> U(30)
    x *= U(0xBF58476D1CE4E5B9)
    x ^= x >> U(27)
    x *= U(0x94D049BB133111EB)
    return x ^ (x >> U(31))


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shingle(
    data: Any, start: int, stop: int, classes: Any, codes: Any, ring: Any, out: Any
) -> Any:
    """Hash the shingles of data[start:stop] into `out`; returns (shingles, units)."""
    n = ring.shape[0]
    power = U(1)
    for _ in range(n):
        power *= _MULT
    h, scale, rolling = U(0), U(1), U(0)
    units, count, inside, before = 0, 0, False, nb.uint8(0)
    for i in range(start, stop + 1):
        kind = classes[data[i]] if i < stop else nb.uint8(0)
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
def _longest(offsets: Any) -> Any:
    longest = 0
    for d in range(offsets.shape[0] - 1):
        longest = max(longest, offsets[d + 1] - offsets[d])
    return longest + 1


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _signatures(data: Any, offsets: Any, classes: Any, codes: Any, n: int, a: Any, b: Any) -> Any:
    texts = offsets.shape[0] - 1
    signature = np.empty((texts, a.shape[0]), dtype=np.uint32)
    counts = np.empty(texts, dtype=np.int64)
    ring = np.empty(n, dtype=np.uint64)
    found = np.empty(_longest(offsets), dtype=np.uint64)
    low = np.empty(a.shape[0], dtype=np.uint32)
    for d in range(texts):
        count, units = _shingle(data, offsets[d], offsets[d + 1], classes, codes, ring, found)
        low[:] = nb.uint32(0xFFFFFFFF)
        for s in range(count):
            x = nb.uint32(found[s] >> U(32))
            for p in range(a.shape[0]):
                v = nb.uint32(a[p] * x + b[p])
                low[p] = v if v < low[p] else low[p]
        signature[d] = low
        counts[d] = units
    return signature, counts


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _shingle_sets(data: Any, offsets: Any, classes: Any, codes: Any, n: int) -> Any:
    texts = offsets.shape[0] - 1
    flat = np.empty(data.shape[0] + texts, dtype=np.uint64)
    sizes = np.zeros(texts, dtype=np.int64)
    ring = np.empty(n, dtype=np.uint64)
    found = np.empty(_longest(offsets), dtype=np.uint64)
    at = 0
    for d in range(texts):
        count, _ = _shingle(data, offsets[d], offsets[d + 1], classes, codes, ring, found)
        part = np.sort(found[:count] >> U(11))
        for s in range(count):
            if s == 0 or part[s] != part[s - 1]:
                flat[at] = part[s]
                at += 1
                sizes[d] += 1
    return flat[:at].copy(), sizes


@nb.njit(cache=True, nogil=True)  # type: ignore[untyped-decorator, unused-ignore]
def _all_grams(data: Any, offsets: Any, classes: Any, codes: Any, n: int) -> Any:
    texts = offsets.shape[0] - 1
    flat = np.empty(data.shape[0] + texts, dtype=np.uint64)
    sizes = np.empty(texts, dtype=np.int64)
    ring = np.empty(n, dtype=np.uint64)
    at = 0
    for d in range(texts):
        count, _ = _shingle(data, offsets[d], offsets[d + 1], classes, codes, ring, flat[at:])
        sizes[d] = count
        at += count
    return flat[:at] >> U(11), sizes


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


def _sign(data: Bytes, offsets: Ids, form: Shape, a: Any, b: Any) -> tuple[Any, Ids]:
    signature, counts = _signatures(data, offsets, form.classes, form.codes, form.n, a, b)
    return signature, counts


def _sets(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids]:
    flat, sizes = _shingle_sets(data, offsets, form.classes, form.codes, form.n)
    return flat, sizes


def _grams(data: Bytes, offsets: Ids, form: Shape) -> tuple[Words, Ids]:
    flat, sizes = _all_grams(data, offsets, form.classes, form.codes, form.n)
    return flat, sizes


NUMBA = Kernel("numba", _sign, _sets, _grams, _jaccard)
