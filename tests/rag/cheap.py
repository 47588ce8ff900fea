"""An embedder from a package of its own (an entry point): hashes of words, no model, no torch."""

from __future__ import annotations

from pathlib import Path

MODULE = '''
"""Vectors from the words' checksums: equal texts are equal, texts that share words are near."""

from contextlib import contextmanager
from zlib import crc32

import numpy as np

from llmctl.rag.embedders.base import Embedder


class Live:
    dimensions = 64
    cut = ()

    def texts(self, texts):
        found = np.zeros((len(texts), self.dimensions), "float32")
        for row, text in enumerate(texts):
            for word in text.lower().split():
                found[row, crc32(word.encode()) % self.dimensions] += 1
        return found / np.linalg.norm(found, axis=1, keepdims=True)

    def query(self, text):
        return self.texts([text])[0]


class HashingEmbedder(Embedder):
    @contextmanager
    def open(self):
        yield Live()
'''


def install(folder: Path) -> Path:
    """Write the package into `folder`, which then belongs on PYTHONPATH."""
    info = folder / "hashing-1.0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (folder / "hashing.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: hashing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[llmctl.rag.embedders]\nhashing = hashing:HashingEmbedder\n"
    )
    return folder
