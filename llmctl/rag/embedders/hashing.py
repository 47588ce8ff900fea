"""Words counted into buckets: no model, microseconds a text; a baseline and a tool for tests."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import log1p
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from llmctl.rag.embedders._vectors import Prompts
from llmctl.rag.embedders.base import Embedder

if TYPE_CHECKING:
    import numpy as np

WORD = re.compile(r"\w+")


class Hashing:
    """Feature hashing with signs (Weinberger et al. 2009): texts that share words are near."""

    cut: Sequence[int] = ()
    prompts = Prompts("", "")

    def __init__(self, dimensions: int) -> None:
        self.dimensions = dimensions

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts, shape (texts, dimensions)."""
        import numpy as np

        found = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        for row, text in zip(found, texts, strict=True):
            for word, count in Counter(WORD.findall(text.lower())).items():
                number = zlib.crc32(word.encode("utf-8", "surrogatepass"))
                row[(number >> 1) % self.dimensions] += (1 if number & 1 else -1) * log1p(count)
            norm = float(np.linalg.norm(row))
            if norm:
                row /= norm
            else:
                row[0] = 1.0  # a text without a word points somewhere, too
        return found

    def query(self, text: str) -> np.ndarray:
        """Vector of a question."""
        vector: np.ndarray = self.texts([text])[0]
        return vector


class HashingEmbedder(Embedder):
    """Finds equal words, not equal meaning: for trying a pipeline out, and as a baseline."""

    needs: ClassVar[dict[str, str]] = {"numpy": "rag"}

    dimensions: int = Field(256, ge=8, le=65536, description="Buckets: length of a vector.")

    @contextmanager
    def open(self) -> Iterator[Hashing]:
        """Nothing to load."""
        yield Hashing(self.dimensions)
