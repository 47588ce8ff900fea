"""Worked answers whose last number or formula is not that of the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any, ClassVar, Literal

from pydantic import Field

from llmctl.data import maths
from llmctl.data.filters.base import Filter, Verdict, answer_of, field_of


class MathsFilter(Filter):
    r"""The answer after ####, \boxed, `A:` or `answer is`, else the last number, is right.

    Numbers are compared as fractions, formulas at several points with sympy. Of a conversation the
    last answer counts, of a pair the chosen one.
    """

    needs: ClassVar[dict[str, str]] = {"sympy": "data"}

    reference: str = Field(
        "meta.reference", min_length=1, description="Field with the right answer or solution."
    )
    missing: Literal["drop", "keep"] = Field(
        "drop", description="What happens to a row without that field."
    )
    steps: bool = Field(
        False, description="Whether every written sum such as 12 * 4 = 48 has to be right, too."
    )
    tolerance: float = Field(
        1e-6, ge=0, lt=1, description="Largest distance from the reference, as a share of it."
    )
    step_tolerance: float = Field(
        0.01, ge=0, description="Largest distance of a step's result, for rounded ones."
    )

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""

        def judge(row: Mapping[str, Any]) -> Verdict:
            reference = field_of(row, self.reference)
            if reference is None:
                return f"has no {self.reference}" if self.missing == "drop" else None
            wanted = maths.final(str(reference)) or str(reference)
            return self._wrong(answer_of(row), wanted)

        return judge

    def _wrong(self, answer: str, wanted: str) -> Verdict:
        given = maths.final(answer)
        if given is None:
            return "gives no answer"
        if not maths.same(given, wanted, self.tolerance):
            return f"{given[:60]} is not {wanted[:60]}"
        if self.steps:
            for left, right, true, said in maths.equations(answer):
                if abs(true - said) > Fraction(self.step_tolerance):
                    return f"{left} is {float(true):g}, not {right}"
        return None
