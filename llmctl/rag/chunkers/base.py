"""The promise of a chunker: spans that point exactly into the text and leave out only space."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmctl.plugins import Backend

if TYPE_CHECKING:
    import numpy as np

Span = tuple[int, int]


@dataclass(frozen=True)
class About:
    """What a chunker may want to know beside the text; most need none of it."""

    uri: str = ""
    """The document's name: its ending tells a programming language."""
    embed: Callable[[Sequence[str]], np.ndarray] | None = None
    """Texts -> vectors of length 1, shape (texts, dimensions), with the recipe's embedder; only
    given to a chunker whose `embeds` is true."""


NOTHING = About()


class Chunker(Backend):
    """Cuts a text into spans: not blank, in order, together all that is not white space."""

    @abstractmethod
    def split(self, text: str, about: About = NOTHING) -> Iterator[Span]:
        """(start, end) of each chunk, in characters."""

    def families(self, text: str, about: About = NOTHING) -> Iterator[tuple[Span | None, Span]]:
        """(parent or None, chunk): a chunk with a parent is found, its parent is what is read."""
        for span in self.split(text, about):
            yield None, span

    @property
    def embeds(self) -> bool:
        """Whether `split` calls `about.embed`."""
        return False

    def models(self) -> dict[str, str]:
        """Model references that change the spans: dotted key below the chunker -> reference."""
        return {}


def trimmed(text: str, spans: Iterable[Span]) -> Iterator[Span]:
    """Spans without white space at their ends; blank ones are left out."""
    for start, end in spans:
        piece = text[start:end]
        left = len(piece) - len(piece.lstrip())
        right = len(piece.rstrip())
        if left < right:
            yield start + left, start + right
