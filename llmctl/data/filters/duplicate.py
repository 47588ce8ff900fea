"""Rows that were there before, apart from case, spaces and the marks of sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import (
    ANSWERS,
    Filter,
    Verdict,
    Within,
    answers_of,
    context_of,
    spoken,
    turns_of,
)
from llmctl.records import form_of

MARKS = re.compile(r"[\s.,;:!?\"'()\[\]…“”„‘’«»¿¡。，、！？：；「」]+")
"""What does not count; signs such as + and # do: C++ is not C#."""


class DuplicateFilter(Filter):
    """The first of equal rows stays; the question of a conversation is all that was said before.

    A good and a bad answer are never equal.
    """

    by: Within = Field("question", description="What has to be equal.")

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""
        seen: dict[tuple[str, ...], str] = {}

        def judge(row: Mapping[str, Any]) -> Verdict:
            key = self._key(row)
            # equal rows have equal ids: only being seen before tells a copy
            if key in seen:
                return f"as {seen[key]}"
            seen[key] = str(row["id"])
            return None

        return judge

    def _key(self, row: Mapping[str, Any]) -> tuple[str, ...]:
        """What makes the row a copy of another one."""
        parts = [] if self.by == "answer" else [part for turn in context_of(row) for part in turn]
        if self.by != "question":
            turns = turns_of(row, ANSWERS.get(form_of(row), ()))
            parts += [spoken(turn) for turn in turns if turn["role"] == "assistant"]
            parts += [] if turns else answers_of(row)
        if "completion" in row:
            parts.append(str(row["label"]))
        return tuple(MARKS.sub(" ", part.casefold()).strip() or part for part in parts)
