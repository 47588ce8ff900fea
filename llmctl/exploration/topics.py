"""Topics: rows that share their words, each group with its keywords and its most typical rows.

Rows become vectors of TF-IDF weights hashed into buckets (Weinberger et al. 2009), or of an
embedder when one is named; they are grouped by spherical k-means (Dhillon and Modha 2001), and a
group's keywords have the highest class-based TF-IDF (Grootendorst 2022).
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log1p, sqrt

import numpy as np

from llmctl.data import vectors
from llmctl.rag.embedders.base import Embedder
from llmctl.rag.terms import ENGLISH

BUCKETS = 512
KEYWORDS = 8
SHOWN = 2
"""Typical rows of a topic."""


@dataclass(frozen=True)
class Topic:
    """A group of rows: how many, what they share, and the rows nearest to its middle."""

    size: int
    keywords: list[str]
    examples: list[int]


def topics(
    texts: Sequence[str],
    bags: Sequence[Counter[str]],
    count: int,
    seed: int,
    embedder: Embedder | None = None,
) -> list[Topic]:
    """At most `count` groups, the largest first; `bags[i]` are the words of `texts[i]`."""
    known = Counter[str]()
    for bag in bags:
        known.update({word for word in bag if len(word) > 2 and telling(word)})
    weights = {w: log(len(bags) / n) + 1 for w, n in known.items() if n > 1 or len(bags) < 20}
    if embedder is not None:
        made = vectors.embedded(embedder, texts, np.arange(len(texts)))
    else:
        made = hashed(bags, weights)
    filled = np.flatnonzero(np.abs(made).sum(axis=1))
    if not len(filled):
        return []
    own = made[filled]
    middles = vectors.centres(own, min(count, max(1, int(sqrt(len(own) / 2)))), seed)
    place, cosine = vectors.nearest(own, middles, 1)
    found = []
    for number in range(len(middles)):
        members = np.flatnonzero(place[:, 0] == number)
        if len(members):
            typical = members[np.argsort(-cosine[members, 0], kind="stable")][:SHOWN]
            words = keywords([bags[filled[i]] for i in members], weights, known, len(bags))
            found.append(Topic(len(members), words, [int(filled[i]) for i in typical]))
    return sorted(found, key=lambda topic: -topic.size)


def telling(word: str) -> bool:
    """Whether a word can say what a text is about: no little word, also not with `'s` or `'ll`."""
    return re.split("['’]", word)[0] not in ENGLISH and not word.isdigit()


def hashed(bags: Sequence[Counter[str]], weights: dict[str, float]) -> vectors.Vectors:
    """TF-IDF vectors of unit length, shape (bags, BUCKETS); zero where no word is known."""
    places = {}
    for word in weights:
        number = zlib.crc32(word.encode("utf-8", "surrogatepass"))
        places[word] = ((number >> 1) % BUCKETS, 1.0 if number & 1 else -1.0)
    found = np.zeros((len(bags), BUCKETS), np.float32)
    for row, bag in zip(found, bags, strict=True):
        for word, n in bag.items():
            if word in places:
                bucket, sign = places[word]
                row[bucket] += sign * log1p(n) * weights[word]
    length = np.linalg.norm(found, axis=1, keepdims=True)
    shortened: vectors.Vectors = found / np.maximum(length, 1e-12)
    return shortened


def keywords(
    bags: Sequence[Counter[str]], weights: dict[str, float], known: Counter[str], rows: int
) -> list[str]:
    """Words that many rows of the group have and few others."""
    inside = Counter[str]()
    for bag in bags:
        inside.update(word for word in bag if word in weights)
    share = {w: n / len(bags) * log1p(rows / known[w]) for w, n in inside.items()}
    return sorted(share, key=lambda w: (-share[w], w))[:KEYWORDS]
