"""The last answer of a worked solution, and whether two answers are the same number or formula.

Nothing that a model wrote is evaluated as code: a formula is read by Python's parser, checked node
by node against what is allowed, and only then built with sympy.
"""

from __future__ import annotations

import ast
import math
import re
import warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from llmctl.data.filters.arithmetic import value

BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")
MARKED = re.compile(
    r"(?:####|\b(?:the\s+)?(?:final\s+)?answer\s*(?:is|:|=)|^\s*A\s*:)\s*:?[ \t]*(.+)",
    re.IGNORECASE | re.MULTILINE,
)
"""How worked solutions mark their answer: GSM8K's ####, `The answer is`, `Answer:`, `A:`."""
NUMBER = re.compile(r"[-−]?\$?\s?\d[\d,]*(?:\.\d+)?(?:\s*/\s*\d+)?\s*%?|[-−]?\.\d+")
EQUATION = re.compile(
    r"(?<![\w.)])([-−]?[($]*\d[\d,.%$]*(?:\s*[-+*/×÷x−–()]+\s*\$?\d[\d,.%$)]*)+)\s*=\s*"
    r"([-−]?\$?\d[\d,]*(?:\.\d+)?%?)(?![\d.]*\s*[-+*/×÷−]\s*\d)"
)
LATEX = [
    (r"\\(?:left|right|displaystyle|[,;!: ]|quad|qquad)", ""),
    (r"\\(?:text|mathrm|textbf|mbox)\s*\{[^{}]*\}", ""),
    (r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"((\1)/(\2))"),
    (r"\\[dt]?frac\s*(\d)\s*(\d)", r"((\1)/(\2))"),
    (r"\\sqrt\s*\{([^{}]*)\}", r"sqrt(\1)"),
    (r"\\sqrt\s*(\d)", r"sqrt(\1)"),
    (r"\\(?:cdot|times)", "*"),
    (r"\\div", "/"),
    (r"\\%", "%"),
    (r"\^\{?\\circ\}?|\\degree", ""),
    (r"\^\s*\{([^{}]*)\}", r"**(\1)"),
    (r"\\(pi|sin|cos|tan|log|ln|exp|infty|theta|alpha|beta)\b", r"\1"),
]
FUNCTIONS = ("sqrt", "sin", "cos", "tan", "log", "exp", "Abs")
NAMED = {"pi": "pi", "e": "E", "infty": "oo", "oo": "oo"}
LARGEST_POWER = 200
POINTS = (Fraction(7, 13), Fraction(31, 17), Fraction(11, 3))
"""Values of the letters at which two formulas are compared; all positive, so that roots exist."""


def final(text: str) -> str | None:
    """The answer of a solution: the last boxed or marked one, else the last number."""
    if boxes := list(BOXED.finditer(text)):
        return _braced(text, boxes[-1].end())
    if marks := MARKED.findall(text):
        return str(marks[-1]).strip().rstrip(".").strip() or None
    numbers = NUMBER.findall(text)
    return numbers[-1].strip() if numbers else None


def _braced(text: str, start: int) -> str | None:
    """What stands up to the brace that closes the one before `start`."""
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return text[start:at].strip() or None
    return None


def same(one: str, other: str, tolerance: float = 1e-6) -> bool | None:
    """Whether two answers have one value; None when one of them cannot be read.

    Args:
        tolerance: Largest distance of two numbers, as a share of the second.
    """
    if plain(one) == plain(other):
        return True
    first, second = number(one), number(other)
    if first is not None and second is not None:
        return abs(first - second) <= Fraction(tolerance) * abs(second)
    try:
        left, right = formula(one), formula(other)
    except (ValueError, RecursionError):
        return None
    return _equal(left, right, tolerance)


def plain(text: str) -> str:
    """The text without the signs that do not change a value."""
    text = text.strip().strip("$").replace("−", "-").replace("–", "-").rstrip(".")
    for pattern, by in LATEX:
        for _ in range(3):  # one in another
            text = re.sub(pattern, by, text)
    text = text.replace("\\$", "").replace("$", "").replace("€", "").replace("£", "")
    text = re.sub(r"(?<=\d),(?=\d{3})", "", text)
    return re.sub(r"\s+", " ", text).strip().casefold()


def number(text: str) -> Fraction | None:
    """The value of an answer that is one number, whatever unit stands after it.

    A percent sign is a unit here: 5 and 5% are one answer to "how many percent".
    """
    found = re.fullmatch(
        r"(-?\s?[\d,]*\.?\d+(?:e[+-]?\d{1,3})?)(?:\s*/\s*(\d+))?\s*%?(.*)", plain(text)
    )
    if not found or (found[2] and not int(found[2])):
        return None
    unit = found[3].strip()
    if unit and (not re.fullmatch(r"[^\W\d][^\d*/+=()^]+", unit) or unit in (*NAMED, *FUNCTIONS)):
        return None  # 2x and 2 pi are formulas, 2 apples is a number
    try:
        top = Fraction(found[1].replace(",", "").replace(" ", ""))
    except ValueError:
        return None
    return top / int(found[2] or 1)


def formula(text: str) -> Any:
    """A sympy expression; raises ValueError for what is not a formula or would take too long."""
    text = plain(text)
    if "=" in text:  # x = 5 says 5
        text = text.rpartition("=")[2]
    text = text.replace("^", "**").replace("{", "(").replace("}", ")").replace("\\", "")
    text = re.sub(r"(?<=[\d)])\s*(?=[a-z(])", "*", text)  # 2x, 3(x+1)
    if len(text) > 300:
        raise ValueError("is too long")
    import sympy

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 1if is odd Python, and not the reader's
            found = ast.parse(text.strip(), mode="eval").body
        if isinstance(found, ast.Tuple):
            return sympy.Tuple(*map(_built, found.elts))
        return _built(found)
    except Exception:  # the text is a model's: what sympy makes of it can fail in any way
        raise ValueError("is no formula") from None


def _built(node: ast.AST) -> Any:
    import sympy

    match node:
        case ast.Constant(value=bool()):
            raise ValueError("is no formula")
        case ast.Constant(value=int() | float() as constant) if math.isfinite(constant):
            return sympy.Rational(str(constant))
        case ast.Name(id=name) if name in NAMED:
            return getattr(sympy, NAMED[name])
        case ast.Name(id=name) if len(name) == 1 or name in ("theta", "alpha", "beta"):
            return sympy.Symbol(name, positive=True)
        case ast.UnaryOp(op=ast.USub(), operand=inner):
            return -_built(inner)
        case ast.UnaryOp(op=ast.UAdd(), operand=inner):
            return _built(inner)
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            power = _built(right)
            if not power.is_number or abs(float(power)) > LARGEST_POWER:
                raise ValueError("has a power that is too large")
            return sympy.Pow(_built(left), power, evaluate=False)  # 9**99**99 is not done
        case ast.BinOp(left=left, op=operator, right=right):
            a, b = _built(left), _built(right)
            match operator:
                case ast.Add():
                    return a + b
                case ast.Sub():
                    return a - b
                case ast.Mult():
                    return a * b
                case ast.Div() if b != 0:
                    return a / b
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]):
            name = {"ln": "log", "abs": "Abs"}.get(name, name)
            if name in FUNCTIONS:
                return getattr(sympy, name)(_built(inner))
    raise ValueError("is no formula")


def _equal(left: Any, right: Any, tolerance: float) -> bool | None:
    """Equal at every point of POINTS: formulas that differ meet at few points, not at these."""
    import sympy

    pair = [isinstance(each, sympy.Tuple) for each in (left, right)]
    if any(pair):
        if not all(pair) or len(left) != len(right):
            return False
        return all(_equal(a, b, tolerance) for a, b in zip(left, right, strict=True))
    letters = sorted(left.free_symbols | right.free_symbols, key=str)
    for shift in range(len(POINTS) if letters else 1):
        at = {s: sympy.Rational(POINTS[(n + shift) % 3]) + n for n, s in enumerate(letters)}
        try:
            a, b = (complex(each.subs(at).evalf(30)) for each in (left, right))
        except (TypeError, ValueError, ArithmeticError):
            return left == right or None  # infinite, or of no value
        if abs(a - b) > max(tolerance, 1e-12) * abs(b):
            return False
    return True


def equations(text: str) -> Iterator[tuple[str, str, Fraction, Fraction]]:
    """(left, right, value of the left, value of the right) of each written sum of plain numbers."""
    for left, right in EQUATION.findall(text):
        try:
            yield left.strip(), right, value(_signs(left)), value(_signs(right))
        except (ValueError, ZeroDivisionError):
            continue  # no sum after all: a date, a range, a ratio


def _signs(text: str) -> str:
    text = text.replace("×", "*").replace("÷", "/").replace("−", "-").replace("–", "-")
    text = re.sub(r"(?<=\d)\s*x\s*(?=[\d($])", "*", text)
    return re.sub(r"(\d+(?:\.\d+)?)%", r"(\1/100)", text.replace("$", "")) if "%" in text else text
