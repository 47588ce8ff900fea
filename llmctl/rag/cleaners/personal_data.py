"""E-mail addresses, phone and card numbers, IBANs, IP addresses and keys: replaced, or a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from llmctl.data.personal import KINDS, Kind, redact, tag
from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner


class PersonalDataCleaner(Cleaner):
    """The title and the metadata are looked at as the text is; paths stay."""

    types: tuple[Kind, ...] = Field(KINDS, min_length=1, description="What is looked for.")
    action: Literal["redact", "drop"] = Field(
        "redact",
        description="Put [EMAIL], [PHONE] and so on in its place, or drop the whole document.",
    )

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """`counts` tells how many of each kind were found."""
        if self.action == "drop":
            found: Counter[str] = Counter()
            for value in (text, *meta.values()):
                found += self._redacted(value)[1]
            detail = ", ".join(f"{count} {kind}" for kind, count in sorted(found.items()))
            return Cleaned(text, reason="personal_data" if found else None, detail=detail)
        done, counts = redact(text, self.types)
        tags = sum(len(tag(kind)) * count for kind, count in counts.items())
        removed = len(text) - len(done) + tags
        fields = {}
        for name, value in meta.items():
            clean, inside = self._redacted(value)
            if inside and name != "path":
                fields[name] = clean
                counts += inside
        return Cleaned(done, removed, counts=counts, meta=fields)

    def _redacted(self, value: Any) -> tuple[Any, Counter[str]]:
        if isinstance(value, str):
            return redact(value, self.types)
        if isinstance(value, list):
            parts = [self._redacted(each) for each in value]
            return [clean for clean, _ in parts], sum((found for _, found in parts), Counter())
        return value, Counter()
