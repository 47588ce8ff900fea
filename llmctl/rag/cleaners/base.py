"""The promise of a cleaner: text in, text out, and how many characters went; twice is as once."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from llmctl.errors import LlmctlError
from llmctl.plugins import Backend

NO_META: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Cleaned:
    """The text, how many characters were taken out or replaced, and why to drop the document."""

    text: str
    removed: int = 0
    reason: str | None = None
    detail: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    """What was found, by name: {"email": 2}."""
    meta: Mapping[str, Any] = field(default_factory=dict)
    """Fields of the document that the cleaner sets or replaces."""


class Cleaner(Backend):
    """Makes one kind of repair and counts it; cleaning twice changes nothing more.

    A form feed ends a page, so every one of them stays.
    """

    @abstractmethod
    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """The repaired text; a `reason` drops the document.

        `meta` holds the document's typed fields, its `title` and its `path`.
        """


def cleaned(
    cleaners: Sequence[Cleaner], text: str, meta: Mapping[str, Any], removed: Counter[str]
) -> Cleaned:
    """All steps after each other; stops at the first that drops the document.

    `removed` counts the characters that each step took out under its name (`regex`, `regex-2`),
    and what it found under `name.what`, as in `personal_data.email`.
    """
    fields = dict(meta)
    for name, cleaner in zip(names(cleaners), cleaners, strict=True):
        step = cleaner.clean(text, fields)
        removed[name] += step.removed
        for what, count in step.counts.items():
            removed[f"{name}.{what}"] += count
        if step.reason is not None:
            return step
        if step.text.count("\f") != text.count("\f"):
            raise LlmctlError(f"the cleaner {name} took out form feeds, which number the pages")
        text = step.text
        fields |= step.meta
    return Cleaned(text, meta=fields)


def names(cleaners: Sequence[Cleaner]) -> list[str]:
    """The kinds, with a number where one comes again: regex, regex-2."""
    seen: Counter[str] = Counter()
    found = []
    for cleaner in cleaners:
        seen[cleaner.kind] += 1
        number = seen[cleaner.kind]
        found.append(cleaner.kind if number == 1 else f"{cleaner.kind}-{number}")
    return found


def counted(cleaners: Sequence[Cleaner], removed: Counter[str]) -> dict[str, dict[str, int]]:
    """What the steps took out and found, as metrics of a run."""
    steps = names(cleaners)
    found = {name: count for name, count in removed.items() if name not in steps and count}
    return {
        "characters_removed": {name: removed[name] for name in steps},
        "found_by_cleaners": dict(sorted(found.items())),
    }
