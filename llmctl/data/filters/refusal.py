"""Answers that decline, or speak of being a model, instead of answering."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import SIDE, Filter, Side, Turns, Verdict, fault_of

REFUSAL = re.compile(
    r"\bas an? (?:ai|artificial intelligence|(?:large )?language model)"
    r"(?: (?:language )?model| assistant| chatbot)?"
    r"(?: (?:developed|created|trained|made) by [^,.]{1,30})?,? i\b"
    r"|\bi(?: am|'m) (?:just |only )?an? (?:ai|(?:large )?language model)"
    r"(?: assistant| model)?[,. ]"
    r"|\bi(?:'m| am) (?:sorry|afraid),? (?:but )?(?:that )?i (?:can ?not|can't|am unable|won't)\b"
    r"|\bi(?:'m| am) (?:not able|unable) to "
    r"(?:assist|help|answer|provide|fulfil|comply|generate|discuss)"
    r"|\bi (?:can ?not|can't|won't) (?:assist|help|answer|fulfil|comply|provide|generate)\b(?! but)"
    r"|\bmy knowledge cutoff\b",
    re.IGNORECASE,
)


class RefusalFilter(Filter):
    """The opening of no answer is a refusal; later mentions are content, not a refusal."""

    opening: int = Field(200, ge=1, description="How far into an answer to look, in characters.")
    side: Side = Field("chosen", description=SIDE)

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def fault(_: Turns, answer: str) -> Verdict:
            found = REFUSAL.search(answer[: self.opening].replace("’", "'"))
            return f"says '{found[0]}'" if found else None

        return lambda row: fault_of(row, self.side, fault)
