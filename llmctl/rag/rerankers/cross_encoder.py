"""A cross-encoder: one pass of a model over question and text together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.errors import InputError
from llmctl.rag.rerankers.base import Reranker
from llmctl.schema.parts import ModelRef

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.embedders.base import Live


class Loaded:
    """A loaded cross-encoder."""

    def __init__(self, settings: CrossEncoderReranker) -> None:
        from llmctl import modelref

        folder = modelref.hf_folder(settings.model)
        _check_head(folder)
        with modelref.silenced():
            from sentence_transformers import CrossEncoder

            self.model: Any = CrossEncoder(str(folder), local_files_only=True)
        # a model with fewer positions keeps its own limit
        own = self.model.max_seq_length or settings.max_tokens
        self.model.max_seq_length = min(own, settings.max_tokens)
        self.settings = settings

    def scores(self, question: str, texts: Sequence[str]) -> np.ndarray:
        """The model's logit of each pair."""
        import numpy as np

        found = self.model.predict(
            [(question, text) for text in texts],
            batch_size=self.settings.batch_size,
            show_progress_bar=False,
        )
        return np.asarray(found, dtype=np.float32).reshape(len(texts), -1)[:, -1]


def _check_head(folder: Path) -> None:
    """Refuse an encoder without a classifier: its head would be drawn at random when loaded."""
    from llmctl import modelref

    names = modelref.read_json(folder / "config.json").get("architectures") or []
    if names and not any(name.endswith("ForSequenceClassification") for name in names):
        raise InputError(
            f"reranker.model: {folder} is {', '.join(names)}, which scores no pairs; name a "
            "cross-encoder, or make one with `llmctl sft` and `task: reranker`"
        )


class CrossEncoderReranker(Reranker):
    """A sequence classifier with one output, such as the ms-marco-MiniLM models."""

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "rag", "torch": "rag"}

    model: ModelRef
    batch_size: int = Field(16, ge=1, description="Pairs that go through the model together.")
    max_tokens: int = Field(
        512,
        ge=16,
        description="Longest pair, in tokens, or what the model can read; the rest is cut.",
    )

    @contextmanager
    def open(self, embedder: Live) -> Iterator[Loaded]:
        """Load the model."""
        yield Loaded(self)
