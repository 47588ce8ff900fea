"""Documents that are out of date are dropped, by a date in their metadata."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner


class DatesCleaner(Cleaner):
    """Keeps what is from `newer_than` or later; times are compared in UTC."""

    field: str = Field("date", min_length=1, description="Metadata field that holds the date.")
    newer_than: datetime.date = Field(
        datetime.date(1970, 1, 1), description="First day that is not out of date."
    )
    undated: Literal["keep", "drop"] = Field(
        "keep", description="What becomes of a document without such a date."
    )

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """The text untouched, with a reason when it is too old."""
        try:
            day = datetime.date.fromisoformat(str(meta.get(self.field, ""))[:10])
        except ValueError:
            if self.undated == "keep":
                return Cleaned(text, counts={"undated": 1})
            return Cleaned(text, reason="undated", detail=f"no date in the field {self.field}")
        if day >= self.newer_than:
            return Cleaned(text)
        detail = f"{self.field} {day} is before {self.newer_than}"
        return Cleaned(text, reason="out_of_date", detail=detail)
