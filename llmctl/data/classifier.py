"""A linear head on an embedding model: texts -> a score, or a class with its probability.

`sft` with `task: classifier` writes it, as `head.json` beside the embedding model; the judge and
the filter `classifier` read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmctl.data.filters.base import Within
from llmctl.errors import InputError

if TYPE_CHECKING:
    import numpy as np

HEAD = "head.json"
BATCH = 64


@dataclass(frozen=True)
class Head:
    """`weights` has a row for each label, or one row for a score; vectors have length 1."""

    labels: list[str]
    """The classes; empty when the head gives a score."""
    weights: list[list[float]]
    bias: list[float]
    within: Within
    low: float = 0.0
    """Smallest and largest score that was learnt from; of classes 0 and 1."""
    high: float = 1.0

    def apply(self, vectors: np.ndarray) -> np.ndarray:
        """Shape (texts, outputs): probabilities of the labels, or scores within the bounds."""
        import numpy as np

        found: np.ndarray = vectors @ np.asarray(self.weights).T + np.asarray(self.bias)
        if not self.labels:
            bounded: np.ndarray = np.clip(found, self.low, self.high)
            return bounded
        found = np.exp(found - found.max(axis=1, keepdims=True))
        chances: np.ndarray = found / found.sum(axis=1, keepdims=True)
        return chances

    def write(self, folder: Path) -> None:
        """As JSON."""
        (folder / HEAD).write_text(json.dumps(asdict(self)), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Head:
        """Raises InputError when the folder has no head."""
        try:
            return cls(**json.loads((folder / HEAD).read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise InputError(
                f"{folder}: has no {HEAD}; a classifier is made by `sft` with `task: classifier`"
            ) from None
        except (ValueError, TypeError):
            raise InputError(f"{folder / HEAD}: is not a classifier's head") from None

    def index(self, label: str | None) -> int:
        """The output of a label; a head with a score has one output."""
        if not self.labels:
            if label is not None:
                raise InputError(f"the classifier gives a score, so it has no label '{label}'")
            return 0
        if label not in self.labels:
            what = "no label is named" if label is None else f"no label '{label}'"
            raise InputError(f"the classifier: {what}; there are: {', '.join(self.labels)}")
        return self.labels.index(label)


class Classifier:
    """An embedding model with its head, loaded."""

    def __init__(self, head: Head, model: Any) -> None:
        self.head, self.model = head, model

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """See Head.apply."""
        return self.head.apply(encoded(self.model, texts))


@contextmanager
def opened(ref: str) -> Iterator[Classifier]:
    """The classifier of an artifact of sft, or of a folder."""
    from llmctl import modelref

    folder = modelref.hf_folder(ref)
    head = Head.read(folder)
    yield Classifier(head, encoder_of(folder))


def encoder_of(folder: Path) -> Any:
    """The embedding model of a folder, through sentence-transformers."""
    from llmctl import modelref

    with modelref.silenced():
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(folder), local_files_only=True)


def encoded(model: Any, texts: Sequence[str]) -> np.ndarray:
    """Vectors of length 1, shape (texts, dimensions), as float64 for the head."""
    found: np.ndarray = model.encode_document(
        list(texts), batch_size=BATCH, normalize_embeddings=True, show_progress_bar=False
    ).astype("float64")
    return found
