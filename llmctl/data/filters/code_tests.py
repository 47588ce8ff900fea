"""Answers whose code does not pass the row's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import Filter, Verdict, answer_of, field_of
from llmctl.sandbox.limits import Limits


class CodeTestsFilter(Filter):
    """The Python of the answer runs with the row's tests in the sandbox, to its end.

    Of a conversation the last answer counts, of a pair the chosen one.
    """

    allow_exec: bool = Field(
        False, description="Whether code that a model wrote may be run here; it has to be said."
    )
    tests: str = Field("meta.tests", min_length=1, description="Field with the tests, in Python.")
    entry_point: str = Field(
        "meta.entry_point",
        min_length=1,
        description="Field with the name that HumanEval's `check` is called with; rows without it "
        "have tests that run as they are.",
    )
    prefix: str | None = Field(
        None, description="Field with code that stands before the answer, such as a prompt's."
    )
    missing: Literal["drop", "keep"] = Field(
        "drop", description="What happens to a row without tests."
    )
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}), description="Limits of each run."
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if not self.allow_exec:
            raise ValueError("code_tests runs code that a model wrote; write `allow_exec: true`")
        return self

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter; raises MissingError where there is no sandbox."""
        from llmctl.data import code
        from llmctl.sandbox.run import check

        check()

        def judge(row: Mapping[str, Any]) -> Verdict:
            tests = field_of(row, self.tests)
            if not tests:
                return f"has no {self.tests}" if self.missing == "drop" else None
            prefix = str(field_of(row, self.prefix) or "") if self.prefix else ""
            program = prefix + code.code_of(answer_of(row))
            found = code.tested(program, str(tests), field_of(row, self.entry_point), self.limits)
            return None if found.status == "done" else f"{found.status}: {found.why}"

        return judge
