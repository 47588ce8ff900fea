"""The item in other words: rows whose embedding is near to an item's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from llmctl.data import vectors
from llmctl.data.dedupers.base import Rows
from llmctl.data.detectors.base import Action, Detector, Hits
from llmctl.data.kernels import Ids
from llmctl.engines.base import Engine
from llmctl.generation.asking import Asking
from llmctl.generation.spending import Spending
from llmctl.rag.embedders.base import Embedder
from llmctl.records import Dropped

QUESTION = """Two texts follow. Is the second one the same question or problem as the first, only \
in other words or with other names? A problem with other numbers is not the same.

First:
{item}

Second:
{row}

Answer yes or no."""
ANSWER = {
    "type": "object",
    "properties": {"same": {"type": "string", "enum": ["yes", "no"]}},
    "required": ["same"],
    "additionalProperties": False,
}
SHOWN = 4000
"""Characters of a text that a model is asked about."""


class SemanticDetector(Detector):
    """Cosine of the embeddings; finds rephrased items that share no n-gram."""

    needs: ClassVar[dict[str, str]] = {"sentence-transformers": "rag", "torch": "rag"}

    action: Action = Field(
        "flag", description="What happens to a row at `threshold` (that `confirm` agrees with)."
    )
    threshold: float = Field(0.8, gt=0, le=1, description="Least cosine.")
    nearest: int = Field(3, ge=1, le=100, description="Items that are looked at for each row.")
    embedder: Embedder = Field(
        default_factory=lambda: Embedder.of("sentence_transformers"),
        description="How rows and items become vectors.",
    )
    confirm: Engine | None = Field(
        None,
        description="A model that is asked whether the two texts are the same; what it denies is "
        "not reported, and without an answer a row is flagged.",
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"cosine >= {self.threshold:g}" + (", confirmed" if self.confirm else "")

    def find(self, items: Sequence[str], rows: Rows, ids: Ids) -> Hits:
        """The nearest items of each row."""
        theirs = vectors.embedded(self.embedder, items, np.arange(len(items)), rows.scratch)
        own = vectors.embedded(self.embedder, rows.texts, ids, rows.scratch, rows.file("embedded"))
        if not len(items) or not len(ids):
            return Hits(ids[:0], ids[:0], np.empty(0), np.empty(0, bool))
        item, cosine = vectors.nearest(own, theirs, self.nearest)
        row = np.repeat(ids, item.shape[1])
        near = np.flatnonzero(cosine.ravel() >= self.threshold)
        row, item = row[near], item.ravel()[near]
        score = np.clip(cosine.ravel()[near], 0, 1).astype(float)
        drop = np.full(len(row), self.action == "drop")
        if self.confirm is None:
            return Hits(row, item, score, drop)
        spending = Spending(max_failures=0.5)
        pairs = [
            (items[j], rows.texts[i]) for i, j in zip(row.tolist(), item.tolist(), strict=True)
        ]
        said = asked(self.confirm, pairs, rows, spending)
        stays = np.array([each != "no" for each in said], bool)
        drop &= np.array([each == "yes" for each in said], bool)
        verdicts = dict(enumerate(each for each in said if each != "no"))
        return Hits(row[stays], item[stays], score[stays], drop[stays], verdicts, spending=spending)


def asked(
    engine: Engine, pairs: Sequence[tuple[str, str]], rows: Rows, spending: Spending
) -> list[str]:
    """yes, no or unmeasured for each (item, row); answers are kept for a killed run."""
    asking = Asking(rows.scratch / "confirm.sqlite" if rows.scratch is not None else None, spending)
    with asking.open(engine) as asker:

        def work(each: dict[str, Any]) -> Iterator[str]:
            item, row = (text.replace("\0", "\n")[:SHOWN] for text in pairs[each["id"]])
            turn = {"role": "user", "content": QUESTION.format(item=item, row=row)}
            yield asker.ask([turn], ANSWER, max_tokens=16, seed=rows.seed)["same"]

        numbered = [{"id": number} for number in range(len(pairs))]
        found = list(asker.each(numbered, work, "confirm"))
    spending.check()
    return ["unmeasured" if isinstance(each, Dropped) else each for each in found]
