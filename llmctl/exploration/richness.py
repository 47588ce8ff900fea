"""How rich a vocabulary is, by measures that depend little on the length of the text."""

from __future__ import annotations

import re
from collections.abc import Sequence

WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
FACTOR = 0.72
"""Type-token ratio that ends a factor (McCarthy and Jarvis 2010)."""
FEWEST = 50
"""Words below which no measure is given."""


def words(text: str) -> list[str]:
    """The words of a text, case folded."""
    return WORD.findall(text.casefold())


def mtld(tokens: Sequence[str]) -> float | None:
    """Measure of textual lexical diversity (McCarthy and Jarvis 2010): mean words a factor lasts.

    The mean of reading forwards and backwards; None below FEWEST words.
    """
    if len(tokens) < FEWEST:
        return None
    return (_one_way(tokens) + _one_way(tokens[::-1])) / 2


def _one_way(tokens: Sequence[str]) -> float:
    factors, types, count = 0.0, set[str](), 0
    for token in tokens:
        types.add(token)
        count += 1
        if len(types) / count <= FACTOR:
            factors += 1
            types.clear()
            count = 0
    if count:
        factors += (1 - len(types) / count) / (1 - FACTOR)
    return len(tokens) / factors if factors else float(len(tokens))


def distinct(tokens: Sequence[str], n: int) -> float | None:
    """Share of the n-grams that are different ones (distinct-n, Li et al. 2016), 0 to 1."""
    if len(tokens) < FEWEST:
        return None
    grams = list(zip(*(tokens[i:] for i in range(n)), strict=False))
    return len(set(grams)) / len(grams)
