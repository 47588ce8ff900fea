"""A sentence-transformers model, in this process, on the CPU or the GPU that is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.rag.embedders._local import LocalEmbedder
from llmctl.rag.embedders._vectors import prompts_of, unit

if TYPE_CHECKING:
    import numpy as np


class Model:
    """A loaded model with the embedder's settings."""

    def __init__(self, embedder: SentenceTransformersEmbedder) -> None:
        from llmctl import modelref

        folder = str(modelref.hf_folder(embedder.model))
        with modelref.silenced():
            from sentence_transformers import SentenceTransformer

            self.model: Any = SentenceTransformer(folder, local_files_only=True)
        if embedder.max_tokens is not None:
            self.model.max_seq_length = embedder.max_tokens
        self.settings = embedder
        self.prompts = prompts_of(Path(folder), embedder.text_prefix, embedder.query_prefix)
        self.cut: Sequence[int] = ()
        self.dimensions = self._encoded(["a"], "").shape[1]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts, shape (texts, dimensions)."""
        limit = self.model.max_seq_length
        if limit:
            # the fast tokenizer is used without its own limit, else every text would seem to fit
            prefixed = [self.prompts.text + text for text in texts]
            words = self.model.tokenizer(prefixed, truncation=False, verbose=False)["input_ids"]
            self.cut = [place for place, each in enumerate(words) if len(each) > limit]
        return self._encoded(list(texts), self.prompts.text)

    def query(self, text: str) -> np.ndarray:
        """Vector of a question."""
        vector: np.ndarray = self._encoded([text], self.prompts.query)[0]
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

    def _encoded(self, texts: list[str], prompt: str) -> np.ndarray:
        # encode() sorts by length, so that a batch has little padding, and restores the order; it
        # puts the prompt in front itself, because some models leave its tokens out of the mean
        vectors: np.ndarray = self.model.encode(
            texts,
            prompt=prompt,
            batch_size=self.settings.batch_size,
            convert_to_numpy=True,
            show_progress_bar=False,
        )
        return unit(vectors, self.settings.dimensions, self.settings.model)


class SentenceTransformersEmbedder(LocalEmbedder):
    """Vectors of length 1, so that their inner product is the cosine."""

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "rag", "torch": "rag"}

    batch_size: int = Field(32, ge=1, description="Texts that go through the model together.")

    @contextmanager
    def open(self) -> Iterator[Model]:
        """Load the model."""
        yield Model(self)
