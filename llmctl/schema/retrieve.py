"""How a question finds chunks: a part that several recipes share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl import artifact as artifacts
from llmctl.engines.base import Engine
from llmctl.rag.compressors.base import Compressor
from llmctl.rag.embedders.base import Embedder
from llmctl.rag.rerankers.base import Reranker
from llmctl.rag.stores.base import Store
from llmctl.rag.transforms.base import Transform
from llmctl.schema.base import Part

Mode = Literal["hybrid", "dense", "bm25"]


class Retrieve(Part):
    """From a question to the chunks that answer it; the steps run in the order of the keys."""

    transforms: tuple[Transform, ...] = Field(
        (), description="What happens to the question before it is searched, in this order."
    )
    engine: Engine | None = Field(
        None,
        description="Model for the transforms and compressors that ask one; in `ask` and `serve` "
        "the recipe's own engine without it.",
    )
    filter: str | None = Field(
        None, min_length=1, description="Only chunks whose metadata fit are searched."
    )
    mode: Mode = Field("hybrid", description="By vectors, by words (BM25), or by both.")
    candidates: int = Field(
        100, ge=1, le=10_000, description="Chunks that each search gives to the fusion."
    )
    fusion: Literal["relative", "rrf"] = Field(
        "relative",
        description="hybrid: min-max of the scores, or reciprocal ranks.",
    )
    alpha: float = Field(
        0.5, ge=0, le=1, description="hybrid: share of the vectors; 0 is words, 1 is vectors."
    )
    rrf_constant: float = Field(
        60, ge=0, description="rrf: a larger one makes the first ranks count less."
    )
    smoothing: float = Field(
        0.5,
        ge=0,
        le=1,
        description="Share of a chunk's score that comes from the candidates most similar to it.",
    )
    smoothing_neighbours: int = Field(
        8,
        ge=1,
        le=100,
        description="How many similar candidates are looked at, a tenth of all at the most.",
    )
    reranker: Reranker | None = Field(None, description="A second look at the best candidates.")
    filter_after: str | None = Field(
        None, min_length=1, description="Found chunks whose metadata do not fit are left out."
    )
    min_score: float | None = Field(
        None,
        ge=-1,
        description="Smallest cosine with the question of a chunk that is used; in mode bm25 the "
        "smallest BM25.",
    )
    diversity: float = Field(
        0.0, ge=0, lt=1, description="Weight of being unlike what is taken already (MMR)."
    )
    k: int = Field(5, ge=1, le=1000, description="How many chunks are used.")
    parents: bool = Field(
        True, description="Use the parent of a small chunk in its place, where it has one."
    )
    neighbours: int = Field(
        0, ge=0, le=20, description="Chunks before and after a hit that are shown with it."
    )
    compressor: Compressor | None = Field(
        None, description="Shortens what is shown to a number of tokens."
    )

    def inputs(self) -> dict[str, Path | str]:
        """Stores that a route may choose."""
        return {
            f"transforms.{number}.{key}": ref
            for number, each in enumerate(self.transforms)
            for key, ref in each.inputs().items()
        }

    @property
    def asks_engine(self) -> bool:
        """Whether a step asks a model that is not named here."""
        return bool(self._asking()) and self.engine is None

    def _asking(self) -> list[str]:
        """The steps that ask a model."""
        compressor = self.compressor
        asking = [transform.kind for transform in self.transforms if transform.asks()]
        return asking + (["compressor"] if compressor and compressor.asks_engine else [])

    def check_engine(self, engine: Engine) -> None:
        """Refuse a model that cannot give the steps that ask it an answer in their form."""
        asking = self._asking()
        if asking and not engine.holds_to_schema:
            raise ValueError(
                f"`{asking[0]}` wants its answer as JSON, to which the engine {engine.kind} cannot "
                "hold a model; give `retrieve` an `engine` of its own: llamacpp or openai"
            )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.engine is not None:
            self.check_engine(self.engine)
        if self.candidates < self.k:
            raise ValueError(f"`candidates` {self.candidates} is smaller than `k` {self.k}")
        return self


def store_needs(folder: Path) -> dict[str, str]:
    """What searching an artifact of ingest needs: package -> extra.

    Less where there is no artifact yet, or one of another version: opening it says what is wrong.
    """
    recipe = (artifacts.read_manifest(folder) or {}).get("recipe", {})
    needs = {"numpy": "rag"}
    with suppress(KeyError, ValueError):
        needs |= Embedder.of(recipe["embedder"]).needs | Store.of(recipe["store"]).needs
    return needs
