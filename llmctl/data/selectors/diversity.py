"""Rows that lie far from each other in meaning."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llmctl.data.filters.base import Within, text_of
from llmctl.data.selectors.base import BY, Row, Sized, best_first, rest
from llmctl.rag.embedders.base import Embedder

if TYPE_CHECKING:
    import numpy as np


class DiversitySelector(Sized):
    """k-center: the row farthest from all chosen ones is chosen next (Gonzalez 1985).

    Its largest distance from any row to the nearest chosen one is at most twice the best possible.
    clusters: k-means, then from every cluster in turn, the largest first.
    """

    method: Literal["k_center", "clusters"] = Field("k_center", description="How rows are spread.")
    clusters: int = Field(20, ge=2, description="Number of clusters of method clusters.")
    embedder: Embedder = Field(
        default_factory=lambda: Embedder.of("onnx"), description="What makes the vectors."
    )
    within: Within = Field("question", description="The text whose meaning counts.")
    by: str | None = Field(
        None, description=f"Which of the rows that are equally fit comes first. {BY}"
    )
    min_distance: float = Field(
        0.0,
        ge=0,
        le=2,
        description="k-center ends when all rows are this near (1 - cosine) to a chosen one.",
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The embedder's model."""
        return {f"embedder.{name}": ref for name, ref in self.embedder.models().items()}

    def chosen(self, rows: Sequence[Row], seed: int) -> dict[int, str]:
        """See Selector."""
        if not rows:
            return {}
        order = best_first(rows, self.by, seed)
        vectors = self.vectors([rows[place] for place in order])
        if self.method == "clusters":
            kept = self._by_clusters(vectors, self.size(rows), seed)
            return rest(rows, (order[each] for each in kept), f"{self.clusters} clusters are full")
        kept, nearest = k_center(vectors, self.size(rows), self.min_distance)
        chosen = set(kept)
        return {
            order[each]: f"{nearest[each]:.3f} from a chosen row"
            for each in range(len(order))
            if each not in chosen
        }

    def vectors(self, rows: Sequence[Row]) -> np.ndarray:
        """One vector of length 1 for each row, shape (rows, dimensions)."""
        import numpy as np

        from llmctl.data import vectors

        texts = [text_of(row, self.within) for row in rows]
        return vectors.embedded(self.embedder, texts, np.arange(len(texts)))

    def _by_clusters(self, vectors: np.ndarray, size: int, seed: int) -> list[int]:
        members: dict[int, list[int]] = defaultdict(list)
        for each, cluster in enumerate(k_means(vectors, min(self.clusters, len(vectors)), seed)):
            members[int(cluster)].append(each)
        ordered = sorted(members.values(), key=lambda each: (-len(each), each))
        turns = (each for turn in zip_longest(*ordered) for each in turn if each is not None)
        return [each for _, each in zip(range(size), turns, strict=False)]


def k_center(
    vectors: np.ndarray, size: int, min_distance: float = 0.0
) -> tuple[list[int], np.ndarray]:
    """(chosen places, distance of each row to the nearest chosen one); the first row begins.

    Greedy, size * rows products of vectors; distances are 1 - cosine.
    """
    import numpy as np

    chosen = [0]
    nearest = 1 - vectors @ vectors[0]
    while len(chosen) < size:
        farthest = int(np.argmax(nearest))
        if nearest[farthest] <= max(min_distance, 1e-6):
            break
        chosen.append(farthest)
        np.minimum(nearest, 1 - vectors @ vectors[farthest], out=nearest)
    return chosen, nearest


def k_means(vectors: np.ndarray, count: int, seed: int) -> np.ndarray:
    """The cluster of each row, by k-means on the sphere from k-means++ seeds.

    Seeds that lie apart find the rare kinds of row, which drawn ones would miss.
    """
    import numpy as np

    from llmctl.data.vectors import nearest, settled

    begin = np.stack(list(_seeds(vectors, count, np.random.default_rng(seed))))
    found: np.ndarray = nearest(vectors, settled(vectors, begin), 1)[0][:, 0]
    return found


def _seeds(vectors: np.ndarray, count: int, random: Any) -> Iterator[np.ndarray]:
    """k-means++ (Arthur and Vassilvitskii 2007): a seed is drawn by its squared distance."""
    import numpy as np

    first = vectors[int(random.integers(len(vectors)))]
    yield first
    nearest = np.clip(1 - vectors @ first, 0, None)
    for _ in range(count - 1):
        total = float((nearest**2).sum())
        if total <= 1e-12:
            return
        place = int(random.choice(len(vectors), p=nearest**2 / total))
        yield vectors[place]
        np.minimum(nearest, np.clip(1 - vectors @ vectors[place], 0, None), out=nearest)
