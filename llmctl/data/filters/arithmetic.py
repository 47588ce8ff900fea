"""Answers whose arithmetic is wrong: every calculation that they write down is done again."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from pydantic import Field

from llmctl.data.filters.base import SIDE, Filter, Side, Turns, Verdict, fault_of

MARKED = re.compile(r"<<([^<>=]+)=([^<>=]+)>>")
"""A calculation as GSM8K marks it: <<48/2=24>> (Cobbe et al. 2021)."""
TOKEN = re.compile(r"\s*(\d+(?:\.\d*)?|\.\d+|//|[-+*/()])")


class ArithmeticFilter(Filter):
    """Every marked calculation `<<48/2=24>>` gives what is written; rows without one stay.

    A calculation that cannot be read (a letter, a division by zero) drops the row too.
    """

    tolerance: float = Field(
        0.01, ge=0, description="Largest distance from the result, for rounded answers."
    )
    side: Side = Field("chosen", description=SIDE)

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def fault(_: Turns, answer: str) -> Verdict:
            for left, right in MARKED.findall(answer):
                try:
                    true, said = value(left), value(right)
                except (ValueError, ZeroDivisionError) as error:
                    return f"{left}={right}: {error}"
                if abs(true - said) > Fraction(self.tolerance):
                    return f"{left} is {float(true):g}, not {right}"
            return None

        return lambda row: fault_of(row, self.side, fault)


def value(text: str) -> Fraction:
    """The exact value of a sum with + - * / // and brackets; nothing is executed."""
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text).replace("$", "").strip()
    if text.endswith("%"):
        return value(text[:-1]) / 100
    tokens, at = [], 0
    while at < len(text):
        found = TOKEN.match(text, at)
        if not found:
            raise ValueError(f"cannot read '{text[at:][:20]}'")
        tokens.append(found[1])
        at = found.end()
    if len(tokens) > 200:
        raise ValueError("is too long")
    result = _sum(tokens)
    if tokens:
        raise ValueError(f"cannot read '{tokens[0]}'")
    return result


def _sum(tokens: list[str]) -> Fraction:
    result = _product(tokens)
    while tokens and tokens[0] in "+-":
        result += _product(tokens) if tokens.pop(0) == "+" else -_product(tokens)
    return result


def _product(tokens: list[str]) -> Fraction:
    result = _number(tokens)
    while tokens and tokens[0] in ("*", "/", "//"):
        sign, number = tokens.pop(0), _number(tokens)
        if sign == "*":
            result *= number
        else:
            result = result / number if sign == "/" else Fraction(result // number)
    return result


def _number(tokens: list[str]) -> Fraction:
    if not tokens:
        raise ValueError("ends early")
    token = tokens.pop(0)
    if token in "+-":
        return _number(tokens) if token == "+" else -_number(tokens)
    if token == "(":
        inner = _sum(tokens)
        if not tokens or tokens.pop(0) != ")":
            raise ValueError("a bracket is not closed")
        return inner
    if not token[-1].isdigit() and token[-1] != ".":
        raise ValueError(f"cannot read '{token}'")
    return Fraction(token)
