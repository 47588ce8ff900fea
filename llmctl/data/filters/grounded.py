"""Answers whose words do not come from the text that they are said to come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import SIDE, Filter, Side, Turns, Verdict, fault_of, last_of


class GroundedFilter(Filter):
    """A share of each answer's words occurs in `meta.context`, and none is its question again.

    Rows without a context stay.
    """

    min_share: float = Field(0.6, ge=0, le=1, description="Smallest share of the answer's words.")
    side: Side = Field("chosen", description=SIDE)

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def judge(row: Mapping[str, Any]) -> Verdict:
            context = row.get("meta", {}).get("context")
            if not context:
                return None
            known = set(re.findall(r"\w+", str(context).casefold()))  # or a list of passages

            def fault(before: Turns, answer: str) -> Verdict:
                if answer.strip() == last_of(before, "user").strip():
                    return "the answer is the question"
                words = re.findall(r"\w+", answer.casefold())
                share = sum(word in known for word in words) / max(len(words), 1)
                return None if share >= self.min_share else f"{share:.2f} < {self.min_share}"

            return fault_of(row, self.side, fault)

        return judge
