"""reStructuredText: adorned titles become Markdown headings, directives and roles plain text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from pydantic import Field

from llmctl.rag.readers.base import Parsed, Reader, decoded

ADORNMENT = re.compile(r"([!-/:-@[-`{-~])\1{2,}\s*")
DIRECTIVE = re.compile(r"(\s*)\.\. ([\w:+-]+)::\s*(.*)")
EXPLICIT = re.compile(r"(\s*)\.\.(\s|$)")
OPTION = re.compile(r"\s+:[\w-]+:( .*)?")
FIELD = re.compile(r":([\w -]+):\s*(.*)")
ROLE = re.compile(r":[\w:+-]+:`([^`]*?)(?:\s*<[^`>]*>)?`")
LINK = re.compile(r"`([^`<]+?)\s*<[^`>]+>`__?")
NAMED = re.compile(r"(?<!`)`([^`]+)`__?")
CODE = ("code", "code-block", "sourcecode", "literalinclude", "highlight", "doctest")
UNSEEN = ("toctree", "image", "include", "raw", "index", "contents", "highlight", "meta",
          "literalinclude", "autosummary", "automodule", "autoclass", "autofunction")  # fmt: skip


class RstReader(Reader):
    """Nothing is included or executed; comments, pictures and tables of contents are left out."""

    patterns: tuple[str, ...] = Field(
        ("*.rst", "*.rest"), min_length=1, description="File names that are reStructuredText."
    )

    def read(self, path: Path) -> Parsed:
        """The text with Markdown headings and fenced code."""
        lines = decoded(path.read_bytes()).expandtabs(8).split("\n")
        meta = _docinfo(lines)
        found = list(_converted(lines))
        text = re.sub(r"\n{3,}", "\n\n", "\n".join(found)).strip() + "\n"
        heading = re.search(r"^# (.+)$", text, re.M)
        return Parsed(text, heading[1] if heading else "", headed=True, meta=meta)


def _docinfo(lines: list[str]) -> dict[str, str]:
    """`:Author: ...` lines at the top, below the title if there is one."""
    meta: dict[str, str] = {}
    for line in lines[:40]:
        match = FIELD.fullmatch(line.strip())
        if match and match[2]:
            name = match[1].strip().lower()
            meta[{"authors": "author"}.get(name, name)] = match[2].strip()
        elif meta and not line.startswith(" "):
            break
    return meta


def _converted(lines: list[str]) -> Iterator[str]:
    levels: list[str] = []
    at = 0
    while at < len(lines):
        line = lines[at]
        title = _title(lines, at)
        if title:
            style, text, used = title
            if style not in levels:
                levels.append(style)
            yield from ("", f"{'#' * min(levels.index(style) + 1, 6)} {_inline(text)}", "")
            at += used
        elif match := DIRECTIVE.match(line):
            end = _block_end(lines, at, len(match[1]))
            yield from _directive(match[2], match[3], lines[at + 1 : end])
            at = end
        elif match := EXPLICIT.match(line):
            at = _block_end(lines, at, len(match[1]))  # comment, target, footnote
        elif line.rstrip().endswith("::") and not line.lstrip().startswith(".."):
            yield _inline(
                re.sub(r"\s*::$", "", line.rstrip()) + (":" if line.strip() != "::" else "")
            )
            indent = len(line) - len(line.lstrip())
            end = _block_end(lines, at, indent)
            yield from _fenced(lines[at + 1 : end], "")
            at = end
        else:
            yield _inline(line) if not ADORNMENT.fullmatch(line) else ""
            at += 1


def _title(lines: list[str], at: int) -> tuple[str, str, int] | None:
    """(style, text, lines used) when a title begins here."""
    first = lines[at]
    second = lines[at + 1] if at + 1 < len(lines) else ""
    third = lines[at + 2] if at + 2 < len(lines) else ""
    if ADORNMENT.fullmatch(first) and second.strip() and third.rstrip() == first.rstrip():
        return first[0] * 2, second.strip(), 3
    before = lines[at - 1].strip() if at else ""
    shown = first.strip() and not first.startswith(" ") and not ADORNMENT.fullmatch(first)
    long_enough = len(second.rstrip()) >= min(len(first.rstrip()), 4)
    if shown and not before and ADORNMENT.fullmatch(second) and long_enough:
        return second[0], first.strip(), 2
    return None


def _block_end(lines: list[str], at: int, indent: int) -> int:
    """The first line after `at` that is not blank and not indented deeper."""
    end = at + 1
    while end < len(lines):
        line = lines[end]
        if line.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        end += 1
    return end


def _directive(name: str, argument: str, body: list[str]) -> Iterator[str]:
    while body and OPTION.fullmatch(body[0]):
        body = body[1:]
    if name in UNSEEN:
        return
    if name in CODE:
        yield from _fenced(body, argument)
        return
    if name in ("figure",):
        argument = ""
    if argument:
        yield _inline(argument)
    yield from _converted(_dedented(body))
    yield ""


def _fenced(body: list[str], language: str) -> Iterator[str]:
    code = "\n".join(_dedented(body)).strip("\n")
    if code:
        yield from ("", f"```{language}", *code.split("\n"), "```", "")


def _dedented(lines: list[str]) -> list[str]:
    widths = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    return [line[min(widths, default=0) :] for line in lines]


def _inline(line: str) -> str:
    line = LINK.sub(r"\1", ROLE.sub(r"\1", line))
    line = NAMED.sub(r"\1", line)
    return line.replace("``", "`")
