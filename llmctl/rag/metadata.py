"""A document's metadata: from front matter, file and path to typed fields that can be filtered.

A field is a string, a number, a date (ISO 8601 text), a boolean, or a list of those. Mappings are
flattened: `author: {name: Lee}` becomes `author.name`.
"""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from email.utils import parsedate_to_datetime
from fnmatch import fnmatchcase
from typing import Any

from llmctl.records import Chunk, Document
from llmctl.schema.metadata import Metadata

OWN = ("reader", "headed", "paged", "title", "path", "headings", "page")
"""Names that llmctl sets itself; a document's own field of that name becomes document.NAME."""
HIDDEN = ("reader", "headed", "paged")
"""Of those, what says how the document was read and is of no use in a chunk."""
ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)(?:[T ](\d\d:\d\d(?::\d\d(?:\.\d+)?)?)\s*(Z|[+-]\d\d:?\d\d)?)?"
)
DATE_NAME = re.compile(r"(?:^|[._-])(?:date|created|modified|updated|published|issued|sent)|_at$")
LONGEST, MOST, SHOWN, COUNTED, DEEPEST = 500, 100, 20, 10_000, 3
"""Characters of a string field, members of a list, values shown and counted, nested mappings."""

Plain = str | float | bool
Fields = dict[str, Any]


def of_document(recipe: Metadata, uri: str, meta: Mapping[str, Any]) -> tuple[Fields, int]:
    """(typed fields of a document, how many values did not fit the type that the recipe names).

    `meta` is what the reader found: front matter, authors, dates.
    """
    found: Fields = {}
    wrong = 0
    given = {**dict(_flat(meta)), **{k: v for tag in _tags(recipe, uri) for k, v in tag.items()}}
    for name, value in given.items():
        if recipe.fields is not None and name not in recipe.fields:
            continue
        plain = _typed(name, value, recipe.types.get(name))
        if plain is None:
            wrong += name in recipe.types and value is not None
            continue
        found[f"document.{name}" if name in OWN else name] = plain
    if recipe.external_id is not None:
        value = dict(_flat(meta)).get(recipe.external_id)
        if value is not None:
            found["external_id"] = _text(value)
    return found, wrong


def unfitting(recipe: Metadata, documents: Iterable[Document]) -> list[str]:
    """What of `tags` and `external_id` says nothing of any document."""
    patterns = dict.fromkeys(tag.pattern for tag in recipe.tags)
    named = recipe.external_id is None
    for document in documents:
        if named and not patterns:
            return []
        for pattern in [p for p in patterns if fnmatchcase(document["uri"], p)]:
            del patterns[pattern]
        named = named or "external_id" in document["meta"]
    found = [f"metadata.tags: the pattern `{p}` fits no document" for p in patterns]
    return (
        found
        if named
        else [*found, f"metadata.external_id: no document has `{recipe.external_id}`"]
    )


def carried(document: Document) -> Fields:
    """What every chunk of a document says of it; long texts stay with the document alone."""
    own = {"title": document["title"], "path": document["uri"]}
    meta = {k: v for k, v in document["meta"].items() if k not in HIDDEN and _short(v)}
    return {**meta, **own}


def _short(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= MOST and all(_short(each) for each in value)
    return isinstance(value, bool | int | float) or (
        isinstance(value, str) and len(value) <= LONGEST
    )


def _tags(recipe: Metadata, uri: str) -> Iterator[dict[str, Any]]:
    return (tag.set for tag in recipe.tags if fnmatchcase(uri, tag.pattern))


def _flat(meta: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    for key, value in meta.items():
        name = f"{prefix}{_text(key).strip()}"
        if isinstance(value, Mapping) and depth < DEEPEST:
            yield from _flat(value, f"{name}.", depth + 1)
        else:
            yield name, value


def _typed(name: str, value: Any, kind: str | None) -> Any:
    """A value as JSON in one of the types; None when there is none, or not of this `kind`."""
    if kind == "list" and not isinstance(value, list | tuple | set | frozenset):
        value = [each.strip() for each in value.split(",")] if isinstance(value, str) else [value]
    if isinstance(value, list | tuple | set | frozenset):
        if kind not in (None, "list"):
            return None
        members = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        plain = [_typed(name, m, None) for m in members if not isinstance(m, list | tuple)]
        return [each for each in plain if each is not None] or None
    if (
        value is None
        or isinstance(value, Mapping)
        or (isinstance(value, str) and not value.strip())
    ):
        return None
    if kind == "string":
        return _text(value)
    if kind == "boolean":
        words = {"true": True, "yes": True, "false": False, "no": False}
        return value if isinstance(value, bool) else words.get(str(value).strip().lower())
    if kind == "number":
        return _number(value)
    if kind == "date":
        return _date(value, named=True)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _number(value)
    dated = _date(value, named=bool(DATE_NAME.search(name.lower())))
    return _text(value) if dated is None else dated


def _text(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return str(value).strip().encode("utf-8", "replace").decode("utf-8")


def _number(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if abs(value) < 2**63 else None
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    if not math.isfinite(number):
        return None
    return (
        int(number) if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,18}", value) else number
    )


def _date(value: Any, named: bool) -> str | None:
    """ISO text of a date; times with a zone are told in UTC.

    The form of an e-mail's date is tried only when the field's name says that it is a date.
    """
    if isinstance(value, datetime.datetime):
        return _moment(value)
    if isinstance(value, datetime.date):
        return value.isoformat()
    if not isinstance(value, str):
        return None
    text = value.strip()
    match = ISO.fullmatch(text)
    try:
        if match and match[4] is None:
            return datetime.date.fromisoformat(text).isoformat()
        if match:
            return _moment(
                datetime.datetime.fromisoformat(
                    text.replace(" ", "")
                    if "T" in text
                    else "T".join(text.split(" ", 1)).replace(" ", "")
                )
            )
        return _moment(parsedate_to_datetime(text)) if named and len(text) < 80 else None
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


def _moment(when: datetime.datetime) -> str:
    if when.tzinfo is None:
        return when.replace(microsecond=0).isoformat()
    try:
        utc = when.astimezone(datetime.UTC)
    except OverflowError:  # the first or last day of the calendar
        utc = when.replace(tzinfo=datetime.UTC)
    return utc.replace(microsecond=0, tzinfo=None).isoformat() + "Z"


class Described:
    """The fields that chunks have, with types, counts and common values: `metadata.json`.

    Add the chunks of one document after each other.
    """

    def __init__(self, types: Mapping[str, str] | None = None) -> None:
        self.types = dict(types or {})
        self.kinds: dict[str, set[str]] = {}
        self.documents: Counter[str] = Counter()
        self.values: dict[str, Counter[Plain]] = {}
        self.ranges: dict[str, tuple[Any, Any]] = {}
        self._document, self._seen = "", set[tuple[str, Any]]()

    def add(self, chunk: Chunk) -> None:
        """Count the fields of a chunk; a value counts once in a document."""
        if chunk["document_id"] != self._document:
            self._document, self._seen = chunk["document_id"], set()
        for name, value in chunk["meta"].items():
            members = value if isinstance(value, list) else [value]
            if (name, None) not in self._seen and members:
                self._seen.add((name, None))
                self.documents[name] += 1
                self.kinds.setdefault(name, set()).add(self._kind(name, value))
            for each in members:
                if (name, each) not in self._seen:
                    self._seen.add((name, each))
                    self._count(name, each)

    def _kind(self, name: str, value: Any) -> str:
        if isinstance(value, list):
            return "list"
        if name in self.types:
            return self.types[name]
        if isinstance(value, bool):
            return "boolean"
        if isinstance(value, int | float):
            return "number"
        return "date" if ISO.fullmatch(value.replace("Z", "")) else "string"

    def _count(self, name: str, value: Plain) -> None:
        counted = self.values.setdefault(name, Counter())
        if value in counted or len(counted) < COUNTED:
            counted[value] += 1
        if self._kind(name, value) in ("number", "date"):
            low, high = self.ranges.get(name, (value, value))
            if isinstance(value, str) == isinstance(low, str):
                self.ranges[name] = (min(low, value), max(high, value))

    def row(self) -> dict[str, Any]:
        """{"fields": {name: {type, documents, distinct, values, min, max}}}, names in order."""
        return {"fields": {name: self._field(name) for name in sorted(self.kinds)}}

    def _field(self, name: str) -> dict[str, Any]:
        kinds, counted = self.kinds[name], self.values.get(name, Counter())
        kind = next(iter(kinds)) if len(kinds) == 1 else "list" if "list" in kinds else "mixed"
        common = sorted(counted.items(), key=lambda item: (-item[1], str(item[0])))
        found = {
            "type": kind,
            "documents": self.documents[name],
            "distinct": len(counted),
            "values": [value for value, _ in common[:SHOWN]],
        }
        if kind in ("number", "date"):
            found["min"], found["max"] = self.ranges[name]
        return found
