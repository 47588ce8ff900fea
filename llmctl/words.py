"""Words that a user typed: as text, and the nearest of several names to a misspelt one."""

from __future__ import annotations

import os
from collections.abc import Iterable


def typed(text: str) -> str:
    """An argument of the command line as UTF-8, whatever the locale took it for."""
    return os.fsencode(text).decode("utf-8", "replace")


def distance(a: str, b: str) -> int:
    """Edits between two words, a swap of neighbours counting one (Damerau 1964, restricted)."""
    rows = [list(range(len(b) + 1))]
    for i, x in enumerate(a, 1):
        row = [i]
        for j, y in enumerate(b, 1):
            cost = min(rows[-1][j] + 1, row[-1] + 1, rows[-1][j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, rows[-2][j - 2] + 1)
            row.append(cost)
        rows.append(row)
    return rows[-1][-1]


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The closest name, or None when nothing is close enough to be meant.

    One edit in a word of at most four letters, two in a longer one, a third of a long one.
    """
    ranked = sorted((distance(word.lower(), name.lower()), name) for name in names)
    if not ranked or ranked[0][0] > max(1 if len(word) <= 4 else 2, len(word) // 3):
        return None
    return ranked[0][1]
