"""Where source code can be cut: line starts, by how deep they are nested.

Each function gives levels for `packing.pack`: sorted places, outermost first, all lines last.
No grammar but Python's own is needed: nesting shows in braces or in indentation.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator

DEPTHS = 4
"""Levels of nesting that are told apart before any line will do."""
LARGEST = 1_000_000
"""Characters above which Python is not parsed: its tree takes a hundred times the text."""
LINE = re.compile(r"[^\n]*(?:\n|\Z)")
LITERALS = (
    r"//[^\n]*|/\*(?:[^*]|\*(?!/))*(?:\*/)?|"  # an open comment runs to the end
    r"\"(?:\\.|[^\"\\\n])*\"?|`(?:\\.|[^`\\])*`?|"
)
MARKS = r"[{}()\[\]\n]"
TOKEN = re.compile(LITERALS + r"'(?:\\.|[^'\\\n])*'?|" + MARKS, re.S)
TOKEN_LIFETIMES = re.compile(LITERALS + r"'(?:\\[^\n']{1,10}|[^'\\\n])'|" + MARKS, re.S)
CONTINUES = re.compile(r"\s*(?:[{}()\]]|else\b|catch\b|finally\b|while\b|$)")
"""Lines that belong to what stands above them."""


def lines(text: str) -> list[int]:
    """Where lines begin."""
    return [0, *(match.end() for match in re.finditer("\n", text))]


def python(text: str) -> list[list[int]] | None:
    """Statements by depth, with the comments and decorators above them; None if it is no Python."""
    if len(text) > LARGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the code that is read
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    starts = [0, *(match.end() for match in re.finditer(r"\r\n?|\n", text))]  # as ast counts
    depths: dict[int, int] = {}
    for line, depth in _statements(tree):
        number = line - 1
        while number and text[starts[number - 1] : starts[number]].lstrip(" \t").startswith("#"):
            number -= 1
        depths.setdefault(starts[number], depth)
    return _levels(depths, lines(text))


def _statements(tree: ast.Module) -> Iterator[tuple[int, int]]:
    """(line, depth) of every statement, outer ones before inner ones."""
    level: list[ast.AST] = [tree]
    depth = 0
    while level:
        inner: list[ast.AST] = []
        for parent in level:
            for name in ("body", "handlers", "orelse", "finalbody", "cases"):
                below = getattr(parent, name, None)
                inner += below if isinstance(below, list) else []
        for node in inner:
            if isinstance(node, ast.stmt):
                marks = getattr(node, "decorator_list", [])
                yield min([node.lineno, *(mark.lineno for mark in marks)]), depth
        level = inner
        depth += 1


def braces(text: str, lifetimes: bool = False) -> list[list[int]]:
    """Line starts outside brackets, after a blank line or a closed block, by depth.

    With `lifetimes` a lone ' opens no text, as in Rust.
    """
    depths: dict[int, int] = {}
    depth, fresh, begin = 0, True, 0
    for match in (TOKEN_LIFETIMES if lifetimes else TOKEN).finditer(text):
        mark = match[0]
        if mark in "{([":
            depth += 1
        elif mark in "})]":
            depth = max(depth - 1, 0)
        elif mark == "\n":
            line = text[begin : match.start()]
            fresh = not line.strip() or line.rstrip().endswith(("}", "};"))
            begin = match.end()
            if fresh and not CONTINUES.match(text[begin : begin + 200].split("\n", 1)[0]):
                depths[begin] = depth
    return _levels(depths, lines(text))


def indents(text: str) -> list[list[int]]:
    """Line starts by indentation: those after a blank line before the others."""
    widths: list[tuple[int, int, bool]] = []
    blank = True
    for match in LINE.finditer(text):
        line = match[0]
        if not line.strip():
            blank = True
            continue
        width = len(line) - len(line.lstrip(" \t"))
        widths.append((match.start(), width, blank))
        blank = False
    ranks = {width: rank for rank, width in enumerate(sorted({width for _, width, _ in widths}))}
    depths = {start: 2 * ranks[width] + (not fresh) for start, width, fresh in widths}
    return _levels(depths, lines(text))


def _levels(depths: dict[int, int], all_lines: list[int]) -> list[list[int]]:
    places = sorted(depths)
    levels = [[at for at in places if depths[at] <= depth] for depth in range(DEPTHS)]
    return [*levels, all_lines]
