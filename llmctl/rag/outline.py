"""Headings of a Markdown text and the path of headings above a place in it."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+(?=[^ \t])")
UNDERLINE = re.compile(r" {0,3}(=+|-{2,})[ \t]*")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")
NOT_A_TITLE = re.compile(r"\s*(?:[-*+>|<]|\d+[.)])|\s*$|    |\t")
"""Lines that an underline does not make a heading: lists, quotes, tables, tags, code, blanks."""


@dataclass(frozen=True)
class Heading:
    """A heading at text[start:end], its underline included; `above` is its parent's number."""

    start: int
    level: int
    title: str
    end: int
    above: int = -1


def outline(text: str) -> list[Heading]:
    """The headings in order; lines inside fenced code are not headings.

    Both of Markdown's forms: `## Title`, and a line of its own underlined with = or -.
    """
    found: list[Heading] = []
    open_levels: list[int] = []  # numbers of the headings above the place that is read
    fence = ""
    start = 0
    before, lone = "", False  # the line before, and whether it is a paragraph of one line
    opens = True  # whether a paragraph would begin here

    def add(begin: int, level: int, title: str) -> None:
        while open_levels and found[open_levels[-1]].level >= level:
            open_levels.pop()
        above = open_levels[-1] if open_levels else -1
        found.append(Heading(begin, level, title, start + len(line), above))
        open_levels.append(len(found) - 1)

    for line in text.split("\n"):
        mark = FENCE.match(line)
        plain = False
        if fence:
            if mark and mark[1].startswith(fence) and line.strip() == mark[1]:
                fence = ""
        elif mark:
            fence = mark[1]
        elif match := HEADING.match(line):
            add(start, len(match[1]), _without_closing(line[match.end() :].strip()))
        elif lone and UNDERLINE.fullmatch(line):
            add(start - len(before) - 1, 1 if "=" in line else 2, before.strip())
        else:
            plain = True
        lone = opens and plain and not NOT_A_TITLE.match(line)
        opens = not plain or not line.strip()
        before = line
        start += len(line) + 1
    return found


def _without_closing(title: str) -> str:
    """A row of # at the end is decoration when a space stands before it."""
    bare = title.rstrip("#")
    return bare.rstrip() if bare[-1:] in (" ", "\t") else title


def path_at(headings: Sequence[Heading], offset: int) -> list[str]:
    """The titles above a place, outermost first."""
    number = bisect_right(headings, offset, key=lambda h: h.start) - 1
    path: list[str] = []
    while number >= 0:
        path.append(headings[number].title)
        number = headings[number].above
    return path[::-1]
