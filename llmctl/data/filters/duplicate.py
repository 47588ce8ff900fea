"""Questions that were asked before, apart from case, spaces and punctuation."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import Filter, Verdict, Within, parts_of


class DuplicateFilter(Filter):
    """The first of equal rows stays."""

    by: Within = Field("question", description="What has to be equal.")

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""
        seen: dict[str, str] = {}

        def judge(row: Mapping[str, Any]) -> Verdict:
            parts = parts_of(row, self.by)
            key = "\0".join(" ".join(re.findall(r"\w+", part.casefold())) for part in parts)
            twin = seen.setdefault(key, row["id"])
            return None if twin == row["id"] else f"as {twin}"

        return judge
