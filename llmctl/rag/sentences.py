"""Where sentences end: a rule that needs no model and keeps every character."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

ENDS = re.compile(
    r"\n\s*\n"  # a blank line
    r"|(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])"
    r"|(?<=[。！？])"
    r"|\f"
)
SHORT = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|vs|approx|Dr|Mr|Mrs|Ms|Prof|St|Fig|No|Eq|al)|\b[A-Z])\.\s+\Z"
)


def sentences(text: str, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
    """Spans that follow each other without a gap, each one sentence with the space after it."""
    end = len(text) if end is None else end
    begin = start
    for match in ENDS.finditer(text, start, end):
        tail = text[max(begin, match.end() - 12) : match.end()]
        if match.end() > begin and not SHORT.search(tail):
            yield begin, match.end()
            begin = match.end()
    if begin < end:
        yield begin, end


def packed(
    text: str, spans: Iterable[tuple[int, int]], max_chars: int
) -> Iterator[tuple[int, int]]:
    """Neighbouring spans joined up to `max_chars`; a longer one is cut, at a space if it can."""
    begin = last = None
    for start, end in spans:
        if begin is not None and last is not None and end - begin > max_chars:
            yield from cut_at_spaces(text, begin, last, max_chars)
            begin = start
        begin = start if begin is None else begin
        last = end
    if begin is not None and last is not None:
        yield from cut_at_spaces(text, begin, last, max_chars)


def cut_at_spaces(text: str, start: int, end: int, max_chars: int) -> Iterator[tuple[int, int]]:
    """A span in pieces of at most `max_chars`, each ending after a space where there is one."""
    while end - start > max_chars:
        space = max(text.rfind(each, start + max_chars // 2, start + max_chars) for each in " \n\t")
        stop = space + 1 if space >= 0 else start + max_chars
        yield start, stop
        start = stop
    yield start, end
