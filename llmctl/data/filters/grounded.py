"""Answers whose words do not come from the text that they are said to come from."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import Filter, Verdict, answers_of, question_of


class GroundedFilter(Filter):
    """A share of the answer's words occurs in `meta.context`, and it is not the question again.

    Rows without a context stay.
    """

    min_share: float = Field(0.6, ge=0, le=1, description="Smallest share of the answer's words.")

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def judge(row: Mapping[str, Any]) -> Verdict:
            context = row.get("meta", {}).get("context")
            if not context:
                return None
            if answers_of(row)[0].strip() == question_of(row).strip():
                return "the answer is the question"
            known = set(re.findall(r"\w+", context.casefold()))
            words = re.findall(r"\w+", answers_of(row)[0].casefold())
            share = sum(word in known for word in words) / max(len(words), 1)
            return None if share >= self.min_share else f"{share:.2f} < {self.min_share}"

        return judge
