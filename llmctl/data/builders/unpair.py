"""Preference pairs taken apart into labelled answers, as KTO learns from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.formats.base import with_tools
from llmctl.records import labelled


class UnpairBuilder(Builder):
    """Two rows of each pair: the chosen answer as good, the rejected one as bad."""

    reads: ClassVar[tuple[str, ...]] = ("pairs",)
    form: ClassVar[str] = "labelled"

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        for row in material.rows:
            meta = {**row["meta"], "builder": self.kind, "pair": row["id"]}
            for side, good in (("chosen", True), ("rejected", False)):
                found = labelled(row["prompt"], row[side], good, row["source"], meta)
                yield {**found, **with_tools(row)}
