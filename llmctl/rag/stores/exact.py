"""No index: every vector is compared, from the artifact's vectors.npy, where it lies."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmctl.errors import InputError
from llmctl.rag import vectors
from llmctl.rag.stores.base import Near, Store

if TYPE_CHECKING:
    import numpy as np

    from llmctl.rag.collection import Snapshot

IDS = "ids.json"
AT_ONCE = 1000


class Opened:
    """The ids of an artifact over its vectors."""

    def __init__(self, folder: Path) -> None:
        import numpy as np

        try:
            self.ids: list[str] = json.loads((folder / IDS).read_text(encoding="utf-8"))
            self._vectors = np.asarray(vectors.mapped(folder.parent / vectors.NAME))
        except (OSError, ValueError):
            raise InputError(f"{folder}: is not a whole store; run `llmctl ingest` again") from None
        self._rows: dict[str, int] | None = None

    def rows(self, ids: Collection[str]) -> list[int]:
        """The rows of ids in their order; those that are not there are left out."""
        if self._rows is None:
            self._rows = {key: row for row, key in enumerate(self.ids)}
        return [self._rows[key] for key in ids if key in self._rows]

    def near(
        self, vector: np.ndarray, k: int, allowed: Collection[str] | None = None
    ) -> list[Near]:
        """The k nearest, exactly."""
        import numpy as np

        if allowed is None:
            places, scores = None, self._vectors @ vector.astype(np.float32)
        else:
            places = np.asarray(sorted(self.rows(allowed)), dtype=np.int64)
            scores = self._vectors[places] @ vector.astype(np.float32)
        if not len(scores) or k < 1:
            return []
        scores = np.round(scores, 6)
        last = np.partition(scores, max(0, len(scores) - k))[max(0, len(scores) - k)]
        best = np.flatnonzero(scores >= last)  # all that tie with the last one
        rows = best if places is None else places[best]
        near = [
            Near(self.ids[row], float(score)) for row, score in zip(rows, scores[best], strict=True)
        ]
        return sorted(near, key=lambda each: (-each.score, each.id))[:k]

    def vectors(self, ids: Sequence[str]) -> np.ndarray:
        """The stored vectors of these ids."""
        found: np.ndarray = self._vectors[self.rows(ids)]
        return found


class ExactStore(Store):
    """Always right, nothing to build; a question reads all vectors: good to about 100,000."""

    needs: ClassVar[dict[str, str]] = {"numpy": "rag"}

    def write(self, folder: Path, snapshot: Snapshot, told: Callable[[int], None]) -> None:
        """The ids alone, one after the other: the vectors are in the artifact already."""
        comma = "["
        with (folder / IDS).open("w", encoding="utf-8") as file:
            for chunks, _ in snapshot.blocks(AT_ONCE):
                file.write(comma + json.dumps([chunk["id"] for chunk in chunks])[1:-1])
                comma = ","
                told(len(chunks))
            file.write("]")

    @contextmanager
    def open(self, folder: Path) -> Iterator[Opened]:
        """Open the ids and the vectors beside the folder."""
        yield Opened(folder)
