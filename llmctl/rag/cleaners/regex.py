"""Your own replacement, by a regular expression that no text can make slow.

The engine is RE2: its time grows with the text alone, whatever the pattern. In return it has no
look-around and no references back into the pattern.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.rag.cleaners.base import NO_META, Cleaned, Cleaner


class RegexCleaner(Cleaner):
    """Replaces every match; pages are looked at one by one, so that none is lost."""

    needs: ClassVar[dict[str, str]] = {"google-re2": "rag"}

    pattern: str = Field(
        min_length=1,
        max_length=2000,
        description="What to find, in RE2's syntax: (?i) ignores case, (?m) lets ^ and $ stand at "
        "lines, (?s) lets . match line ends.",
    )
    replacement: str = Field("", description=r"What to put there; \1 is the first group.")

    @model_validator(mode="after")
    def _can_be_compiled(self) -> Self:
        try:
            compiled = _compiled(self.pattern)
        except ModuleNotFoundError:
            return self  # the stage says how to install it
        for match in re.finditer(r"\\(\d+)", self.replacement):
            if int(match[1]) > compiled.groups:
                raise ValueError(f"replacement: {match[0]} of {compiled.groups} groups")
        return self

    def clean(self, text: str, meta: Mapping[str, Any] = NO_META) -> Cleaned:
        """`removed` counts the characters of all matches, `counts` the matches."""
        compiled = _compiled(self.pattern)
        pages, matches, removed = [], 0, 0
        for page in text.split("\f"):
            done, count = compiled.subn(self.replacement, page)
            if count:
                removed += max(len(page) - len(done), 0)
                matches += count
            pages.append(done.replace("\f", " "))
        return Cleaned("\f".join(pages), removed, counts={"matches": matches} if matches else {})


@cache
def _compiled(pattern: str) -> Any:
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern, options)
    except re2.error as error:
        raise ValueError(f"pattern: {_told(error)}; RE2 has no look-around") from None


def _told(error: Exception) -> str:
    what = error.args[0] if error.args else type(error).__name__
    return what.decode("utf-8", "replace") if isinstance(what, bytes) else str(what)
