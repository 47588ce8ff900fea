"""The same address, title or number: rows whose named fields are equal."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, ClassVar, Literal
from urllib.parse import parse_qsl, urlencode, urlsplit

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from llmctl.data.dedupers.base import Deduper, Found, Rows
from llmctl.data.folding import composed, unpunctuated
from llmctl.data.kernels import Ids
from llmctl.data.texts import picked
from llmctl.data.twins import Pairs

TRACKING = ("utm_", "fbclid", "gclid", "dclid", "msclkid", "mc_cid", "mc_eid", "igshid", "ref_src")
"""Beginnings of query parameters that say where a visitor came from, not what is shown."""
PORTS = {"http": 80, "https": 443}


class KeyDeduper(Deduper):
    """Equal values of all named fields; a row that lacks one of them is left alone."""

    order: ClassVar[int] = -1

    fields: tuple[str, ...] = Field(
        ("source.uri",), min_length=1, description="Dotted fields that must all be equal."
    )
    form: Literal["url", "title", "plain"] = Field(
        "url",
        description="What does not count: for url the scheme, www., the fragment, tracking "
        "parameters and the order of parameters; for title case, punctuation and spaces; for "
        "plain nothing.",
    )

    @property
    def rule(self) -> str:
        """The measure and its bound."""
        return f"same {', '.join(self.fields)} ({self.form})"

    def value(self, row: Mapping[str, Any], where: str) -> str | None:
        """The folded fields, or an empty text when one is missing."""
        parts = []
        for each in self.fields:
            found: Any = row
            for name in each.split("."):
                found = found.get(name) if isinstance(found, Mapping) else None
            if found is None or found == "":
                return ""
            plain = found if isinstance(found, str) else json.dumps(found, sort_keys=True)
            parts.append(self.folded(plain))
        return "\0".join(parts) if all(parts) else ""

    def folded(self, text: str) -> str:
        """The value as it is compared."""
        if self.form == "url":
            return address(text)
        if self.form == "title":
            return " ".join(unpunctuated(composed(text, case=True)).split())
        return text

    def find(self, rows: Rows, alive: NDArray[np.bool_]) -> Found:
        """The first row with a value is kept."""
        twin = np.full(len(rows.texts), -1, np.int64)
        first: dict[bytes, int] = {}
        ids: Ids = np.flatnonzero(alive)
        for i, value in zip(ids.tolist(), picked(rows.values[self.kind], ids), strict=True):
            if value:
                key = blake2b(value.encode("utf-8", "surrogatepass"), digest_size=16).digest()
                twin[i] = first.setdefault(key, i)
        twin[twin == np.arange(len(twin))] = -1
        twin[: rows.fixed] = -1
        y = np.flatnonzero(twin >= 0)
        return Found(twin, (twin >= 0).astype(float), Pairs(twin[y], y, np.ones(len(y))))


def address(text: str) -> str:
    """A URL without what does not change the page it shows (after RFC 3986, section 6)."""
    text = text.strip()
    try:
        parts = urlsplit(text if "//" in text else f"//{text}")
        host, port = (parts.hostname or "").removeprefix("www."), parts.port
    except ValueError:  # no address: compared as it is
        return text
    if port and port != PORTS.get(parts.scheme, 443):
        host += f":{port}"
    query = sorted(
        pair
        for pair in parse_qsl(parts.query, keep_blank_values=True)
        if not pair[0].lower().startswith(TRACKING)
    )
    path = parts.path.rstrip("/")
    return host + path + (f"?{urlencode(query)}" if query else "")
