"""At most so many rows of each source, task or other value of a field."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import field_of
from llmctl.data.selectors.base import BY, Row, Selector, best_first


class QuotaSelector(Selector):
    """Groups are rows of one value of `field`; of each the first by `by`, or drawn by the seed.

    With `shares` the result has these proportions: as many rows as the scarcest group allows.
    """

    field: str = Field(
        "source.uri", min_length=1, description="Field that groups rows, such as meta.builder."
    )
    most: int = Field(1000, ge=1, description="Most rows of each group.")
    shares: dict[str, float] = Field(
        default_factory=dict,
        description="Instead of `most`: value of the field -> its share of the rows that stay; "
        "other values leave.",
    )
    by: str | None = Field(None, description=f"Which rows of a group come first. {BY}")

    @model_validator(mode="after")
    def _one_rule(self) -> Self:
        if {"most", "shares"} <= self.model_fields_set:
            raise ValueError("quota: give either `most` or `shares`")
        if self.shares and not (
            min(self.shares.values()) > 0 and math.isclose(sum(self.shares.values()), 1)
        ):
            raise ValueError("quota: shares are above 0 and sum to 1")
        return self

    def chosen(self, rows: Sequence[Row], seed: int) -> dict[int, str]:
        """See Selector."""
        groups = [str(field_of(row, self.field)) for row in rows]
        allowed = self._allowed(Counter(groups))
        taken = Counter[str]()
        leaving = {}
        for place in best_first(rows, self.by, seed):
            group = groups[place]
            if taken[group] >= allowed.get(group, 0):
                leaving[place] = f"{self.field} {group}: {allowed.get(group, 0)} are taken"
            taken[group] += 1
        return leaving

    def _allowed(self, found: Counter[str]) -> dict[str, int]:
        if not self.shares:
            return dict.fromkeys(found, self.most)
        total = min(found[group] / share for group, share in self.shares.items())
        return {group: math.floor(share * total + 1e-9) for group, share in self.shares.items()}
