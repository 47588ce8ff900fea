"""Vectors of many texts, and who is near to whom: shared by the methods that compare meaning."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from llmctl import ui
from llmctl.data.kernels import Ids, allocated
from llmctl.data.texts import picked

if TYPE_CHECKING:
    from llmctl.rag.embedders.base import Embedder

Vectors = NDArray[np.float32]
GROUP = 256
"""Texts that are embedded, and kept for a run that is killed, together."""
BLOCK = 1 << 11
ROUNDS = 25


def embedded(
    embedder: Embedder,
    texts: Sequence[str],
    ids: Ids,
    scratch: Path | None = None,
    file: Path | None = None,
) -> Vectors:
    """Vectors of the texts `ids`, shape (ids, dimensions), each of length 1.

    Groups that an earlier, killed run made are read from `scratch`; the model is loaded only when
    something is left to do. `file` holds the result when memory is short.
    """
    folder = scratch / "vectors" if scratch is not None else None
    if folder is not None:
        folder.mkdir(exist_ok=True)
    out: Vectors | None = None
    with ExitStack() as stack, ui.progress("embed", len(ids)) as advance:
        live: Any = None
        for first in range(0, len(ids), GROUP):
            group = [t.replace("\0", "\n") for t in picked(texts, ids[first : first + GROUP])]
            name = blake2b("\0".join(group).encode("utf-8", "surrogatepass"), digest_size=16)
            kept = folder / f"{name.hexdigest()}.npy" if folder is not None else None
            if kept is not None and kept.is_file():
                made = np.load(kept, allow_pickle=False)
            else:
                if live is None:
                    live = stack.enter_context(embedder.open())
                made = np.asarray(live.texts(group), np.float32)
                if kept is not None:
                    partial = kept.with_suffix(".partial.npy")
                    np.save(partial, made)
                    partial.replace(kept)
            if out is None:
                out = allocated((len(ids), made.shape[1]), np.float32, file)
            out[first : first + len(group)] = made
            advance(len(group))
    return out if out is not None else np.empty((0, 1), np.float32)


def centres(vectors: Vectors, count: int, seed: int) -> Vectors:
    """`count` unit centres by spherical k-means (Dhillon and Modha 2001) on a sample of rows."""
    random = np.random.default_rng(seed)
    sample = vectors
    if len(vectors) > 256 * count:
        sample = vectors[np.sort(random.choice(len(vectors), 256 * count, replace=False))]
    sample = np.asarray(sample)
    begin = sample[np.sort(random.choice(len(sample), min(count, len(sample)), replace=False))]
    return settled(sample, begin)


def settled(vectors: Vectors, centres: Vectors) -> Vectors:
    """The unit centres where the rounds of k-means end, each in the middle of those nearest it."""
    found = centres
    with ui.progress("centres", ROUNDS) as advance:
        for _ in range(ROUNDS):
            moved = _middles(vectors, found)
            advance()
            if np.abs(moved - found).max() < 1e-4:
                break
            found = moved
    return found


def _middles(vectors: Vectors, centres: Vectors) -> Vectors:
    """The middle of the vectors that are nearest to each centre; the centre itself without any."""
    near, _ = nearest(vectors, centres, 1)
    total = np.zeros_like(centres)
    np.add.at(total, near[:, 0], vectors)
    length = np.linalg.norm(total, axis=1, keepdims=True)
    middle = np.where(length > 0, total / np.maximum(length, 1e-12), centres)
    return middle.astype(np.float32)


def nearest(vectors: Vectors, others: Vectors, k: int) -> tuple[Ids, Vectors]:
    """Numbers and cosines of the k nearest `others` of each vector, shape (vectors, k)."""
    k = min(k, len(others))
    place = np.empty((len(vectors), k), np.int64)
    cosine = np.empty((len(vectors), k), np.float32)
    for at in range(0, len(vectors), BLOCK):
        product = np.asarray(vectors[at : at + BLOCK]) @ others.T
        top = np.argpartition(-product, k - 1, axis=1)[:, :k]
        score = np.take_along_axis(product, top, 1)
        order = np.lexsort((top, -score), axis=1)
        place[at : at + BLOCK] = np.take_along_axis(top, order, 1)
        cosine[at : at + BLOCK] = np.take_along_axis(score, order, 1)
    return place, cosine


def leaders(
    vectors: Vectors, fixed: int, threshold: float, cells: Ids
) -> tuple[Ids, NDArray[np.float64]]:
    """The nearest kept vector before each one (-1: it is kept itself) and the cosine.

    One pass in order: a vector is dropped when a kept one before it is at least `threshold` near;
    so a million equal vectors cost a million comparisons. `cells`, shape (vectors, probes), says
    which cells a vector is looked for in; with one cell the search is exact.
    """
    twin, score = np.full(len(vectors), -1, np.int64), np.zeros(len(vectors))
    kept: list[list[int]] = [[] for _ in range(int(cells.max(initial=-1)) + 1)]
    with ui.progress("compare", len(vectors)) as advance:
        for at in range(0, len(vectors), BLOCK):
            part = np.arange(at, min(at + BLOCK, len(vectors)))
            inside = cells[part]
            for cell in np.unique(inside).tolist():
                members = part[(inside == cell).any(axis=1)]
                _against(vectors, members, np.array(kept[cell], np.int64), twin, score, threshold)
            held = part[part < fixed]
            twin[held], score[held] = -1, 0.0
            _among(vectors, part[twin[part] < 0], inside, at, fixed, twin, score, threshold)
            for i in part[twin[part] < 0].tolist():
                for cell in set(cells[i].tolist()):
                    kept[cell].append(i)
            advance(len(part))
    return twin, score


def _against(
    vectors: Vectors, members: Ids, kept: Ids, twin: Ids, score: Any, threshold: float
) -> None:
    """Compare members with the kept vectors of a cell."""
    mine = np.asarray(vectors[members])
    for first in range(0, len(kept), 4 * BLOCK):
        others = kept[first : first + 4 * BLOCK]
        product = mine @ np.asarray(vectors[others]).T
        best = product.argmax(axis=1)
        cosine = product[np.arange(len(members)), best].astype(float)
        better = (cosine >= threshold) & (cosine > score[members])
        twin[members[better]], score[members[better]] = others[best[better]], cosine[better]


def _among(
    vectors: Vectors,
    left: Ids,
    inside: Ids,
    at: int,
    fixed: int,
    twin: Ids,
    score: Any,
    threshold: float,
) -> None:
    """Decide among the vectors of a block that resemble none before it."""
    mine = np.asarray(vectors[left])
    product = np.triu(mine @ mine.T, 1)
    product[product < threshold] = 0
    for a in np.flatnonzero(product.any(axis=1)).tolist():
        i = int(left[a])
        if twin[i] >= 0:
            continue
        for b in np.flatnonzero(product[a]).tolist():
            j, cosine = int(left[b]), float(product[a, b])
            shared = set(inside[i - at].tolist()) & set(inside[j - at].tolist())
            if j >= fixed and shared and cosine > score[j]:
                twin[j], score[j] = i, cosine
