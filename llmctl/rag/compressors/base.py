"""The promise of a compressor: spans of the passage, in order, none of them invented."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from llmctl.plugins import Backend

if TYPE_CHECKING:
    from llmctl.engines.base import Session
    from llmctl.rag.embedders.base import Live

BYTES_PER_TOKEN = 3.5
"""Of UTF-8; English prose has about 4.3, so that an estimate is rather too large."""

Span = tuple[int, int]


def tokens_of(text: str) -> int:
    """Tokens of a text, estimated without a tokenizer."""
    return math.ceil(len(text.encode()) / BYTES_PER_TOKEN)


class Compressor(Backend):
    """Chooses what is shown of the passages; what is left out is only left out, never rewritten."""

    asks_engine: ClassVar[bool] = False
    """Whether it asks a model."""

    tokens: int = Field(
        800, ge=16, description="Most tokens of all passages together, at 3.5 bytes a token."
    )

    @abstractmethod
    def choose(
        self, question: str, texts: Sequence[str], embedder: Live, session: Session | None
    ) -> list[list[Span]]:
        """Spans of each text to keep, in the text's order; an empty list drops the text."""


def pieces(text: str) -> list[Span]:
    """The sentences of a text without the space around them."""
    from llmctl.rag.sentences import sentences

    found = []
    for start, end in sentences(text):
        inner = text[start:end]
        start += len(inner) - len(inner.lstrip())
        end = start + len(inner.strip())
        if end > start:
            found.append((start, end))
    return found


def within(
    texts: Sequence[str], ranked: Sequence[tuple[int, Span]], tokens: int
) -> list[list[Span]]:
    """The best (text, span) pairs that fit together into `tokens`, in the texts' order."""
    kept: list[list[Span]] = [[] for _ in texts]
    left = tokens
    for number, span in ranked:
        cost = tokens_of(texts[number][span[0] : span[1]])
        if cost <= left:
            kept[number].append(span)
            left -= cost
    return [joined(text, sorted(spans)) for text, spans in zip(texts, kept, strict=True)]


def joined(text: str, spans: Sequence[Span]) -> list[Span]:
    """Neighbouring sentences as one span."""
    found: list[Span] = []
    for start, end in spans:
        if found and not text[found[-1][1] : start].strip():
            found[-1] = (found[-1][0], end)
        else:
            found.append((start, end))
    return found
