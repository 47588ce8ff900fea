"""Filters on metadata: `author = 'Lee' and date >= 2024-01-01` -> a test of a chunk's meta.

One language for the command line, recipes and self-query:

    field = value    != < <= > >=        values: 'text', 12.5, true, false, 2024-01-31 (or 2024-01)
    field in ('a', 'b')   field not in (1, 2)   field like 'api/*'   field exists   field missing
    and, or, not, parentheses

Text is compared without regard to case. A date is compared to the precision that is written:
`date <= 2024-01` includes all of January. A list passes when one of its members does. A chunk
without the field passes no comparison; ask with `missing`. A name with other characters than
letters, digits, `_`, `-` and `.` stands in backquotes; a quote inside text is doubled.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from llmctl.errors import InputError
from llmctl.words import nearest

LONGEST, DEEPEST = 10_000, 50
DATE = re.compile(r"\d{4}-\d\d(?:-\d\d(?:[T ]\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|[+-]\d\d:\d\d)?)?)?")
TOKEN = re.compile(
    rf"(?P<date>{DATE.pattern}(?![\w-]))"
    r"|(?P<number>-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?(?![\w.-]))"
    r"|(?P<text>'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")"
    r"|(?P<mark><=|>=|!=|<>|==|[=<>(),])"
    r"|(?P<name>[^\W\d][\w.-]*|`[^`]+`)"
)
WORDS = ("and", "or", "not", "in", "like", "exists", "missing", "true", "false")
SIGNS = {"==": "=", "<>": "!="}


class Day(str):
    """A date that was written without quotes."""

    __slots__ = ()


Value = str | float | bool


@dataclass(frozen=True)
class Compare:
    """`field sign value`; the sign is one of = != < <= > >= in like exists missing."""

    field: str
    sign: str
    values: tuple[Value, ...] = ()

    def matches(self, meta: Mapping[str, Any]) -> bool:
        """Whether a chunk with this meta passes."""
        found = meta.get(self.field)
        there = found is not None and found != []
        if self.sign in ("exists", "missing"):
            return there == (self.sign == "exists")
        if not there:
            return False
        members = found if isinstance(found, list) else [found]
        if self.sign == "!=":
            return not any(_holds("=", each, self.values[0]) for each in members)
        sign = "=" if self.sign == "in" else self.sign
        return any(_holds(sign, each, value) for each in members for value in self.values)

    def __str__(self) -> str:
        name = self.field if re.fullmatch(r"[^\W\d][\w.-]*", self.field) else f"`{self.field}`"
        name = f"`{name}`" if name in WORDS else name
        shown = [_shown(value) for value in self.values]
        if self.sign == "in":
            return f"{name} in ({', '.join(shown)})"
        return " ".join([name, self.sign, *shown])


@dataclass(frozen=True)
class Not:
    """What does not pass the part."""

    part: Filter

    def matches(self, meta: Mapping[str, Any]) -> bool:
        """The contrary."""
        return not self.part.matches(meta)

    def __str__(self) -> str:
        return f"not ({self.part})"


@dataclass(frozen=True)
class Join:
    """Parts joined by `and` or by `or`."""

    word: str
    parts: tuple[Filter, ...]

    def matches(self, meta: Mapping[str, Any]) -> bool:
        """All parts, or one of them."""
        each = (part.matches(meta) for part in self.parts)
        return all(each) if self.word == "and" else any(each)

    def __str__(self) -> str:
        return f" {self.word} ".join(
            f"({part})" if isinstance(part, Join) else str(part) for part in self.parts
        )


Filter = Compare | Not | Join


def parse(text: str, fields: Mapping[str, Mapping[str, Any]] | None = None) -> Filter:
    """The filter that a text says; InputError names the place of a mistake.

    `fields` is `fields` of an artifact's metadata.json: names and types are checked against it.
    """
    found = _Parser(text).whole()
    if fields is not None:
        check(found, fields)
    return found


def comparisons(found: Filter) -> Iterator[Compare]:
    """The comparisons inside a filter, from left to right."""
    if isinstance(found, Compare):
        yield found
    for part in (found.part,) if isinstance(found, Not) else getattr(found, "parts", ()):
        yield from comparisons(part)


def check(found: Filter, fields: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse a field that no document has, and a value of another type than the field's."""
    for each in comparisons(found):
        if each.field not in fields:
            near = nearest(each.field, fields)
            hint = f", did you mean '{near}'?" if near else ""
            known = ", ".join(sorted(fields)) or "none"
            name = " ".join(each.field.split())
            raise InputError(f"filter: no field named '{name}'{hint}; there are: {known}")
        kind = fields[each.field]["type"]
        for value in each.values:
            wrong = _mismatch(kind, each.sign, value)
            if wrong:
                told = " ".join(_shown(value).split())
                raise InputError(f"filter: {each.field} is a {kind}; {wrong}, found {told}")


def _mismatch(kind: str, sign: str, value: Value) -> str | None:
    """What to write instead, when a value cannot be compared with a field of this type."""
    if sign == "like" and kind not in ("string", "list", "mixed"):
        return "`like` compares text"
    if kind == "boolean" and (not isinstance(value, bool) or sign not in ("=", "!=", "in")):
        return "write = true or = false"
    if kind == "number" and (isinstance(value, bool) or not isinstance(value, int | float)):
        return "write a number such as 12"
    if kind == "date" and _date(value) is None:
        return "write a date such as 2024-01-31"
    if kind == "string" and (isinstance(value, Day) or not isinstance(value, str)):
        return "write text in quotes such as 'a'"
    return None


def _date(value: Any) -> str | None:
    """A date as ISO text, to the precision that was written; a whole number may be a year."""
    if isinstance(value, int) and not isinstance(value, bool) and 1000 <= value <= 9999:
        return str(value)
    if isinstance(value, str) and (DATE.fullmatch(value) or re.fullmatch(r"\d{4}", value)):
        return value.replace(" ", "T")
    return None


def _holds(sign: str, found: Any, value: Value) -> bool:
    """Whether `found sign value`; values of two types that cannot be compared do not."""
    left: Any = found
    right: Any = value
    if isinstance(found, bool) or isinstance(value, bool):
        return sign == "=" and found is value
    if isinstance(found, str):
        date, other = _date(found), _date(value)
        if (
            date is not None
            and other is not None
            and (len(found) > 4 or not isinstance(value, str))
        ):
            left, right = date[: len(other)], other
        elif isinstance(value, str):
            left, right = folded(found), folded(value)
        else:
            return False
    elif not isinstance(found, int | float) or not isinstance(value, int | float):
        return False
    if sign == "=":
        return bool(left == right)
    if sign == "like":
        return isinstance(left, str) and _like(left, right)
    if sign in ("<", "<="):
        return bool(left < right or (sign == "<=" and left == right))
    return bool(left > right or (sign == ">=" and left == right))


def folded(text: str) -> str:
    """One spelling for comparing: composed letters, no case."""
    return unicodedata.normalize("NFC", text).casefold()


def _like(text: str, pattern: str) -> bool:
    """`*` stands for any characters; tried from left to right without going back."""
    first, *rest = pattern.split("*")
    if not rest:
        return text == pattern
    last = rest.pop()
    if len(text) < len(first) + len(last) or not text.startswith(first) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in rest:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Day) or not isinstance(value, str):
        return str(value)
    return "'" + value.replace("'", "''") + "'"


class _Parser:
    """Reads a filter from left to right, one token ahead."""

    def __init__(self, text: str) -> None:
        if len(text) > LONGEST:
            raise InputError(f"filter: {len(text)} characters; at most {LONGEST} are read")
        self.text, self.at, self.depth = text, 0, 0
        self.kind, self.word, self.place = "", "", 0
        self.advance()

    def advance(self) -> None:
        while self.at < len(self.text) and self.text[self.at].isspace():
            self.at += 1
        self.place = self.at
        if self.at == len(self.text):
            self.kind, self.word = "end", ""
            return
        match = TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at] in "'\"`":
                self.fail("a quote that is not closed")
            self.fail(f"'{self.text[self.at]}' has no meaning here")
        self.kind, self.word, self.at = str(match.lastgroup), match[0], match.end()
        if self.kind == "name" and self.word.lower() in WORDS:
            self.kind, self.word = "word", self.word.lower()

    def fail(self, what: str) -> NoReturn:
        raise InputError(f"filter: column {self.place + 1}: {' '.join(what.split())}")

    def found(self) -> str:
        return "the end" if self.kind == "end" else f"'{self.word}'"

    def take(self, *words: str) -> bool:
        """Step over the token when it is one of these marks or words."""
        if self.kind in ("mark", "word") and self.word in words:
            self.advance()
            return True
        return False

    def whole(self) -> Filter:
        if self.kind == "end":
            self.fail("the filter is empty; write for example author = 'Lee'")
        found = self.joined("or")
        if self.kind != "end":
            self.fail(f"expected `and`, `or` or the end; found {self.found()}")
        return found

    def joined(self, word: str) -> Filter:
        parts = [self.part(word)]
        while self.take(word):
            parts.append(self.part(word))
        return parts[0] if len(parts) == 1 else Join(word, tuple(parts))

    def part(self, word: str) -> Filter:
        return self.joined("and") if word == "or" else self.single()

    def single(self) -> Filter:
        self.depth += 1
        if self.depth > DEEPEST:
            self.fail(f"more than {DEEPEST} parts inside each other")
        if self.take("not"):
            found: Filter = Not(self.single())
        elif self.take("("):
            found = self.joined("or")
            if not self.take(")"):
                self.fail(f"expected `)`; found {self.found()}")
        else:
            found = self.compare()
        self.depth -= 1
        return found

    def compare(self) -> Filter:
        if self.kind != "name":
            self.fail(f"expected the name of a field; found {self.found()}")
        field = self.word.strip("`")
        self.advance()
        if self.take("not"):
            if self.word not in ("in", "like"):
                self.fail(f"expected `in` or `like` after `not`; found {self.found()}")
            # as with !=, a chunk without the field does not pass
            return Join("and", (Compare(field, "exists"), Not(self.rest(field))))
        return self.rest(field)

    def rest(self, field: str) -> Compare:
        sign = self.word
        if self.take("exists", "missing"):
            return Compare(field, sign)
        if self.take("in"):
            return Compare(field, "in", tuple(self.listed()))
        if self.take("like"):
            if self.kind != "text":
                self.fail(f"expected text in quotes after `like`; found {self.found()}")
            return Compare(field, "like", (self.value(),))
        if not self.take("=", "==", "!=", "<>", "<", "<=", ">", ">="):
            self.fail(
                f"expected = != < <= > >= in, like, exists or missing after {field}; "
                f"found {self.found()}"
            )
        return Compare(field, SIGNS.get(sign, sign), (self.value(),))

    def listed(self) -> Sequence[Value]:
        if not self.take("("):
            self.fail(f"expected `(` after `in`; found {self.found()}")
        values = [self.value()]
        while self.take(","):
            values.append(self.value())
        if not self.take(")"):
            self.fail(f"expected `,` or `)`; found {self.found()}")
        return values

    def value(self) -> Value:
        kind, word = self.kind, self.word
        found: Value
        if kind == "text":
            found = word[1:-1].replace(word[0] * 2, word[0])
        elif kind == "date":
            found = Day(word)
        elif kind == "number":
            found = float(word) if re.search("[.eE]", word) else int(word)
        elif kind == "word" and word in ("true", "false"):
            found = word == "true"
        elif kind == "name":
            self.fail(f"text stands in quotes: '{word.strip('`')}'")
        else:
            self.fail(f"expected a value; found {self.found()}")
        self.advance()
        return found
