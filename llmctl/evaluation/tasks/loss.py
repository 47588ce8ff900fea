"""How well a model predicts the assistant's turns of held-out conversations."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.evaluation.tasks.base import Item, Scored, Task, draw, nll, rows_of, too_long


class LossTask(Task):
    """Nats per token (`loss`) and per byte in bits (`bits_per_byte`, for other tokenizers)."""

    metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_byte")
    lower_is_better: ClassVar[frozenset[str]] = frozenset(metrics)

    data: Path = Field(description="Rows with `messages` or `text`, or a folder with a split.")
    split: Literal["train", "validation", "test"] = Field(
        "test", description="Split that is read when `data` is a folder."
    )
    loss_on: Literal["assistant", "all"] = Field(
        "assistant", description="Tokens that count: the assistant's turns, or all."
    )

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """The rows of the split."""
        return draw(rows_of(self.data, self.split), limit, seed)

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """The mean loss of each row's targets, weighted by their number."""
        from llmctl.training import data

        special = set(session.tokenizer.all_special_ids)
        for item in items:
            row = data.tokens_of(session.tokenizer, item.data, item.where, self.loss_on)
            wrong = too_long(session, len(row.ids))
            if wrong or not row.targets:
                yield Scored(unmeasured=wrong or "no token of an assistant's turn")
                continue
            [(total, count)] = nll(session, [(row.ids, row.trained)])
            size = sum(
                len(piece.encode())
                for token, piece, trained in zip(row.ids, row.pieces, row.trained, strict=True)
                if trained and token not in special
            )
            yield Scored(
                {"loss": total / count, "bits_per_byte": total / size / math.log(2)},
                {"loss": count, "bits_per_byte": size},
            )
