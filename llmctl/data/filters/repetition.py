"""Answers that repeat themselves, by the rules of Gopher (Rae et al. 2021, table A1)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import SIDE, Filter, Side, Turns, Verdict, fault_of

TOP = {2: 0.20, 3: 0.18, 4: 0.16}
"""n -> largest share of the characters in the most frequent n-gram."""
REPEATED = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}
"""n -> largest share of the characters in n-grams that occur more than once."""
PIECES = {"lines": ("\n", 0.30, 0.20), "paragraphs": ("\n\n", 0.30, 0.20)}
"""name -> (separator, largest share of repeated pieces, of their characters)."""


class RepetitionFilter(Filter):
    """No share of repeated lines, paragraphs or n-grams is above the paper's threshold."""

    tolerance: float = Field(
        1.0, gt=0, le=10, description="Factor on every threshold of the paper; above 1 keeps more."
    )
    min_words: int = Field(
        50, ge=2, description="Shorter answers are not looked at: few words repeat by chance."
    )
    side: Side = Field("chosen", description=SIDE)

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def fault(_: Turns, answer: str) -> Verdict:
            if len(answer.split()) < self.min_words:
                return None
            for what, share, limit in shares(answer):
                if share > limit * self.tolerance:
                    return f"{what}: {share:.2f} > {limit * self.tolerance:.2f}"
            return None

        return lambda row: fault_of(row, self.side, fault)


def shares(text: str) -> list[tuple[str, float, float]]:
    """(what is repeated, share of the text, the paper's threshold), each share from 0 to 1."""
    found = []
    for name, (separator, count_limit, size_limit) in PIECES.items():
        pieces = [piece.strip() for piece in text.split(separator) if piece.strip()]
        again = [piece for piece, n in Counter(pieces).items() for _ in range(n - 1)]
        found.append((f"repeated {name}", len(again) / max(len(pieces), 1), count_limit))
        size = sum(map(len, again)) / max(len(text), 1)
        found.append((f"characters in repeated {name}", size, size_limit))
    words = text.split()
    total = max(sum(map(len, words)), 1)
    for n, limit in TOP.items():
        grams = Counter(zip(*(words[i:] for i in range(n)), strict=False))
        size = max((c * sum(map(len, g)) for g, c in grams.items() if c > 1), default=0)
        # occurrences that overlap count twice, so the share is capped
        found.append((f"most frequent {n}-gram", min(size / total, 1.0), limit))
    for n, limit in REPEATED.items():
        found.append((f"repeated {n}-grams", _covered(words, n) / total, limit))
    return found


def _covered(words: list[str], n: int) -> int:
    """Characters of the words that stand in a repeated n-gram, each word counted once."""
    grams = list(zip(*(words[i:] for i in range(n)), strict=False))
    counts = Counter(grams)
    size = end = 0
    for start, gram in enumerate(grams):
        if counts[gram] > 1:
            size += sum(map(len, words[max(start, end) : start + n]))
            end = start + n
    return size
