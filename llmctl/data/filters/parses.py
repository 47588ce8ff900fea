"""Answers whose code or JSON does not parse, or whose Markdown fence is not closed."""

from __future__ import annotations

import ast
import json
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field

from llmctl.data.filters.base import Filter, Verdict, answers_of

FENCE = re.compile(r" {0,3}(`{3,}|~{3,})[ \t]*([\w+-]*)(.*)")


class ParsesFilter(Filter):
    """Fences are closed, and what stands in fences marked json or python parses."""

    whole: Literal["markdown", "json", "python"] = Field(
        "markdown", description="What the whole answer is; of markdown, the fenced blocks parse."
    )

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def judge(row: Mapping[str, Any]) -> Verdict:
            for answer in answers_of(row):
                blocks = fences(answer) if self.whole == "markdown" else [(self.whole, answer)]
                for language, text in blocks:
                    if text is None:
                        return "a fence is not closed"
                    if error := fault(language, text):
                        return error
            return None

        return judge


def fences(text: str) -> Iterator[tuple[str, str | None]]:
    """(language, content) of each fenced block (CommonMark 4.5); content None: not closed."""
    mark, language = "", ""
    lines: list[str] = []
    for line in text.splitlines():
        found = FENCE.fullmatch(line)
        if not mark:
            if found and not (found[1][0] == "`" and "`" in found[3]):
                mark, language, lines = found[1], found[2].lower(), []
        elif found and found[1].startswith(mark) and not (found[2] + found[3]).strip():
            yield language, "\n".join(lines)
            mark = ""
        else:
            lines.append(line)
    if mark:
        yield language, None


def fault(language: str, text: str) -> str | None:
    """Why a text is not the language that it is said to be; None for other languages."""
    try:
        if language == "json":
            json.loads(text)
        elif language in ("python", "py", "python3"):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a doubtful escape is the author's, not ours
                ast.parse(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return f"{language}: {str(error).splitlines()[0]}"
    return None
