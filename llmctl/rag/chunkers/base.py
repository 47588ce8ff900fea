"""The promise of a chunker: spans that point exactly into the text and leave out only space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator

from llmctl.plugins import Backend

Span = tuple[int, int]


class Chunker(Backend):
    """Cuts a text into spans: not blank, in order, together all that is not white space."""

    @abstractmethod
    def split(self, text: str) -> Iterator[Span]:
        """(start, end) of each chunk, in characters."""


def trimmed(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Spans without white space at their ends; blank ones are left out."""
    for start, end in spans:
        piece = text[start:end]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if left < right:
            yield start + left, start + right
