"""What tasks that learn from (query, text) pairs share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field

from llmctl import rows
from llmctl.data import outset
from llmctl.schema.base import Part
from llmctl.tuning.base import Task

if TYPE_CHECKING:
    from llmctl.schema.parts import TrainData

Query = Literal["title", "heading", "first_sentence", "inverse_cloze", "sentences"]


class Negatives(Part):
    """Texts that look like the answer and are not it, found by search in the training texts."""

    count: int = Field(
        1, ge=0, le=16, description="Hard negatives of each pair; 0 leaves those of the batch."
    )
    mined_by: tuple[Literal["dense", "bm25"], ...] = Field(
        ("dense",), min_length=1, description="Searches that propose them, taken in turn."
    )
    depth: int = Field(30, ge=1, le=1000, description="Ranks of each search that are looked at.")
    margin: float = Field(
        0.05,
        ge=0,
        lt=1,
        description="A text whose cosine to the query is not at least this far below the "
        "positive's may be a right answer too, and is not taken.",
    )


class PairTask(Task):
    """How pairs are made, and which texts are put beside the right one."""

    queries: tuple[Query, ...] = Field(
        ("title", "inverse_cloze"),
        min_length=1,
        description="How rows of chunks become pairs: title, last heading or first sentence "
        "against the text, or one sentence (inverse_cloze) or each of the first ones (sentences) "
        "against the rest. Rows that have "
        "`query` and `positive` are taken as they are.",
    )
    negatives: Negatives = Field(
        default_factory=lambda: Negatives.model_validate({}), description="Hard negatives."
    )

    def look(self, data: TrainData) -> None:
        """Rows are in our own form, or chunks of an ingest artifact."""
        from llmctl.training import pairs

        outset.begun(data.train, rows.placed(pairs.files(data.train)), self.check)
        if apart := pairs.held_out_files(data):
            outset.begun(apart[0], rows.placed(apart), self.check)

    def check(self, row: dict[str, Any], where: str) -> None:
        """A pair of query and text, or a chunk, of which pairs are made."""
        from llmctl.training import pairs

        next(pairs.of_row(row, self.queries, 0, where), None)
