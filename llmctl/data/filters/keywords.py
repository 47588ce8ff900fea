"""Rows that contain words which must not be learnt."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any

from pydantic import Field

from llmctl.data.filters.base import Filter, Verdict, Within, parts_of


class KeywordsFilter(Filter):
    """No listed word or phrase occurs as a whole word, whatever its case."""

    words: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, description="Words or phrases that drop a row."
    )
    within: Within = Field("both", description="Where to look.")

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""
        longest_first = sorted(self.words, key=len, reverse=True)
        pattern = re.compile(
            rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)", re.IGNORECASE
        )

        def judge(row: Mapping[str, Any]) -> Verdict:
            for part in parts_of(row, self.within):
                if found := pattern.search(part):
                    return f"has '{found[0]}'"
            return None

        return judge
