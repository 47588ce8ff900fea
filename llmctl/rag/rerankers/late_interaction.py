"""Late interaction with the store's own embedder: token vectors of the question meet the text's.

Each token of the question looks for its nearest token of the text, and the mean of these cosines
is the score (Khattab and Zaharia 2020), here with a model that was trained for one vector a text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from llmctl.errors import InputError
from llmctl.rag.rerankers.base import Reranker

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.embedders.base import Live


class Tokens:
    """The embedder, asked for token vectors."""

    def __init__(self, embedder: Any) -> None:
        if not hasattr(embedder, "tokens"):
            raise InputError(
                "the reranker late_interaction needs an embedder that gives token vectors; "
                "sentence_transformers does"
            )
        self.embedder = embedder

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """Mean over the question's tokens of the largest cosine with a token of the text."""
        import numpy as np

        [asked], found = self.embedder.tokens([question]), self.embedder.tokens(list(texts))
        return np.asarray([(asked @ each.T).max(axis=1).mean() for each in found], dtype=np.float32)


class LateInteractionReranker(Reranker):
    """Needs no further model; each candidate costs one pass of the embedder."""

    @contextmanager
    def open(self, embedder: Live) -> Iterator[Tokens]:
        """Nothing to load."""
        yield Tokens(embedder)
