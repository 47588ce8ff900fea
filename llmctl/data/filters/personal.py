"""Rows that hold personal data or keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data import personal
from llmctl.data.filters.base import Filter, Verdict, calls_of, parts_of


class PersonalFilter(Filter):
    """Nothing that is said, called or to be read holds an address, a number or a key of `kinds`.

    The detail never shows it.
    """

    kinds: list[personal.Kind] = Field(
        default_factory=lambda: list(personal.KINDS),
        min_length=1,
        description="What drops a row.",
    )

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def judge(row: Mapping[str, Any]) -> Verdict:
            found: Counter[str] = Counter()
            for part in (*parts_of(row, "both"), *calls_of(row)):
                found.update(each.kind for each in personal.find(part, self.kinds))
            return ", ".join(f"{count} {kind}" for kind, count in sorted(found.items())) or None

        return judge
