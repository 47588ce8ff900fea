"""What embedders share: the prompts that a model asks for, and vectors of one length."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from llmctl.errors import InputError

if TYPE_CHECKING:
    import numpy as np


class Prompts(NamedTuple):
    """What is put before a text that is embedded."""

    text: str
    query: str


def prompts_of(folder: Path, text: str | None, query: str | None) -> Prompts:
    """The recipe's prompts; where it has none, those in the model's folder."""
    file = folder / "config_sentence_transformers.json"
    own = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    named: dict[str, str] = own.get("prompts") or {}
    stored = next((named[n] for n in ("document", "passage", "corpus") if named.get(n)), "")
    return Prompts(
        stored if text is None else text, named.get("query") or "" if query is None else query
    )


def unit(vectors: np.ndarray, dimensions: int | None, where: str) -> np.ndarray:
    """The first `dimensions` numbers of each vector, float32, length 1."""
    import numpy as np

    if dimensions is not None and dimensions > vectors.shape[1]:
        raise InputError(
            f"embedder.dimensions: {dimensions} is more than {where} gives: {vectors.shape[1]}"
        )
    short = vectors[:, :dimensions].astype(np.float32)
    length = np.linalg.norm(short, axis=1, keepdims=True)
    found: np.ndarray = short / np.maximum(length, 1e-12)
    return found
