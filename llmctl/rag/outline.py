"""Headings of a Markdown text and the path of headings above a place in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(.+?)(?:[ \t]+#+)?[ \t]*")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


@dataclass(frozen=True)
class Heading:
    """A heading line that starts at character `start`."""

    start: int
    level: int
    title: str


def outline(text: str) -> list[Heading]:
    """The headings in order; lines inside fenced code are not headings."""
    found: list[Heading] = []
    fence = ""
    start = 0
    for line in text.split("\n"):
        mark = FENCE.match(line)
        if fence:
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
        elif mark:
            fence = mark[1]
        elif match := HEADING.fullmatch(line):
            found.append(Heading(start, len(match[1]), match[2].strip()))
        start += len(line) + 1
    return found


def path_at(headings: Sequence[Heading], offset: int) -> list[str]:
    """The titles above a place, outermost first."""
    level, path = 7, []
    for heading in reversed(headings[: bisect_right(headings, offset, key=lambda h: h.start)]):
        if heading.level < level:
            path.append(heading.title)
            level = heading.level
    return path[::-1]
