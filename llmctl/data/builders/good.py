"""Examples from labelled answers: the good ones; the bad ones leave."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.records import example


class GoodBuilder(Builder):
    """Answers labelled as good become examples, as fine-tuning needs them."""

    reads: ClassVar[tuple[str, ...]] = ("labelled",)
    form: ClassVar[str] = "examples"

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        for row in material.rows:
            if row["label"]:
                messages = [*row["prompt"], *row["completion"]]
                yield example(messages, row["source"], {**row["meta"], "builder": self.kind})
            else:
                yield Dropped(str(row["id"]), "labelled_bad")
