"""Answers whose code does not parse, or whose Markdown fence is not closed."""

from __future__ import annotations

import ast
import json
import logging
import re
import shutil
import subprocess
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from llmctl.data.filters.base import SIDE, Filter, Side, Turns, Verdict, fault_of
from llmctl.errors import InputError, MissingError, install_hint

FENCE = re.compile(r"( {0,3})(`{3,}|~{3,})[ \t]*([\w+-]*)(.*)")
ITEM = re.compile(r" {0,3}(?:[-*+]|\d{1,9}[.)]) {1,4}(?=\S)")
"""The marker of a list item; what belongs to the item is indented as far."""

DIALECTS = ("", "postgres", "mysql", "tsql", "bigquery")
"""What SQL of no stated dialect may be; the first is sqlglot's own mixture."""
EXPLAINED = re.compile(r"\A\s*(?:(?:ANALYZE|VERBOSE|QUERY\s+PLAN|\([^)]*\))\s+)*", re.IGNORECASE)
"""What may stand between EXPLAIN and the statement."""
MARKS = {
    "json": "json", "python": "python", "py": "python", "python3": "python", "sql": "sql",
    "sh": "shell", "bash": "shell", "shell": "shell",
}  # fmt: skip
"""How a fence is marked -> the language that it has to parse as; others are not looked at."""


class ParsesFilter(Filter):
    """Fences are closed, and what stands in fences marked json, python, sql or sh parses.

    Nothing is run: bash only reads (`bash -n`), SQL is read by sqlglot, and statements of which it
    knows no more than the first word (CALL, VACUUM) do not parse.
    """

    whole: Literal["markdown", "json", "python", "sql", "shell"] = Field(
        "markdown", description="What the whole answer is; of markdown, the fenced blocks parse."
    )
    dialect: str = Field(
        "",
        description="Dialect of SQL by sqlglot's name, such as postgres; empty takes what one of "
        "the common dialects does.",
    )
    side: Side = Field("chosen", description=SIDE)

    @field_validator("dialect")
    @classmethod
    def _known(cls, value: str) -> str:
        if value and not re.fullmatch(r"[a-z0-9_]+", value):
            raise ValueError("a dialect is one word such as postgres, mysql, sqlite or bigquery")
        return value

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        if self.dialect or self.whole == "sql":
            _sql(self.dialect)  # a missing package or a wrong dialect is told before the first row

        def wrong(_: Turns, answer: str) -> Verdict:
            blocks = fences(answer) if self.whole == "markdown" else [(self.whole, answer)]
            for language, text in blocks:
                if text is None:
                    return "a fence is not closed"
                if error := fault(MARKS.get(language, language), text, self.dialect):
                    return error
            return None

        return lambda row: fault_of(row, self.side, wrong)


def fences(text: str) -> Iterator[tuple[str, str | None]]:
    """(language, content) of each fenced block; content None: not closed.

    As CommonMark 0.31 has it (4.5, 5.2): a fence may stand in a list item, and what it is indented
    by is taken from each line of its content.
    """
    margins, indent = [0], 0
    mark, language = "", ""
    lines: list[str] = []
    for line in re.split(r"\r\n?|\n", text):
        if mark:
            found = FENCE.fullmatch(without(line, margins[-1]))
            if found and found[2].startswith(mark) and not (found[3] + found[4]).strip():
                yield language, "\n".join(lines)
                mark = ""
            else:
                lines.append(without(line, indent))
            continue
        rest = _in_its_item(line, margins)
        found = FENCE.fullmatch(rest)
        if found and not (found[2][0] == "`" and "`" in found[4]):
            mark, language, lines = found[2], found[3].lower(), []
            indent = margins[-1] + len(found[1])
    if mark:
        yield language, None


def _in_its_item(line: str, margins: list[int]) -> str:
    """The line without what belongs to lists around it; `margins` are those of the open items."""
    rest = line.expandtabs(4)
    if not rest.strip():
        return ""
    while len(rest) - len(rest.lstrip(" ")) < margins[-1]:
        margins.pop()
    rest = rest[margins[-1] :]
    while item := ITEM.match(rest):
        margins.append(margins[-1] + len(item[0]))
        rest = rest[len(item[0]) :]
    return rest


def without(line: str, columns: int) -> str:
    """A line without up to so many columns of leading white space; a tab reaches to the fourth."""
    if not columns:
        return line
    bare = line.lstrip(" \t")
    return line[: len(line) - len(bare)].expandtabs(4)[columns:] + bare


def fault(language: str, text: str, dialect: str = "") -> str | None:
    """Why a text is not the language that it is said to be; None for other languages."""
    try:
        if language == "json":
            json.loads(text, parse_constant=_no_json)
        elif language == "python":
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # a doubtful escape is the author's, not ours
                ast.parse(text)
        elif language == "sql":
            _parse_sql(text, dialect)
        elif language == "shell":
            _parse_shell(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError) as error:
        return f"{language}: {(str(error).splitlines() or [type(error).__name__])[0]}"
    return None


def _no_json(name: str) -> None:
    """What Python's reader takes beside JSON (RFC 8259, 6)."""
    raise ValueError(f"{name} is no JSON")


def _sql(dialect: str) -> Any:
    """sqlglot, once its dialect is known to be one."""
    try:
        import sqlglot
    except ImportError:
        raise MissingError(f"parses: SQL needs sqlglot: {install_hint('data')}") from None
    # it would write to stderr of each statement that it does not know
    logging.getLogger("sqlglot").setLevel(logging.ERROR)
    try:
        sqlglot.Dialect.get_or_raise(dialect or None)
    except ValueError as error:
        raise InputError(f"parses: dialect: {error}") from None
    return sqlglot


def _parse_sql(text: str, dialect: str) -> None:
    """Raises ValueError where SQL ends to be SQL, in every dialect that it may be."""
    sqlglot = _sql(dialect)
    faults = []
    for each in [dialect] if dialect else DIALECTS:
        try:
            _statements(sqlglot, text, each)
            return
        except ValueError as error:
            faults.append(error)
    raise faults[0]


def _statements(sqlglot: Any, text: str, dialect: str) -> None:
    try:
        found = sqlglot.parse(text, read=dialect or None, error_level=sqlglot.ErrorLevel.RAISE)
    except sqlglot.errors.SqlglotError as error:
        first = (getattr(error, "errors", None) or [{}])[0]
        said = first.get("description") or str(error).splitlines()[0]
        raise ValueError(f"{said} in line {first.get('line', 1)}") from None
    expressions = sqlglot.exp
    told = [each for each in found if each and not isinstance(each, expressions.Semicolon)]
    if not told:
        raise ValueError("has no statement")
    for each in told:
        # it takes the rest of a line after a known word, such as `Show me`, for a command
        command = each.find(expressions.Command)
        if command is not None and str(command.this).upper() == "EXPLAIN":
            rest = command.text("expression")
            _statements(sqlglot, EXPLAINED.sub("", rest, count=1), dialect)
        elif command is not None:
            raise ValueError(f"{str(command.this).upper()} is not known well enough to be read")
        # and what it does not know at all for an expression of one or two names
        empty = isinstance(each, expressions.Select) and not each.expressions
        prose = isinstance(each, expressions.Describe) and each.expressions  # Explain this to me
        if empty or prose or isinstance(each, expressions.Condition | expressions.Alias):
            raise ValueError("is no statement")


def _parse_shell(text: str) -> None:
    """Raises ValueError where bash, which reads and runs nothing, finds a mistake."""
    bash = shutil.which("bash")
    if bash is None:
        raise MissingError("parses: shell code is read by bash, which is not installed: install it")
    done = subprocess.run(
        [bash, "--noprofile", "--norc", "-n"],
        input=text.encode(errors="replace"),
        capture_output=True,
        env={"LC_ALL": "C"},
        timeout=30,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["does not parse"]
        raise ValueError(said[0].partition(": ")[2] or said[0])
