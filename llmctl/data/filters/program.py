"""Rows that a Python program of yours refuses."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import Filter, Verdict
from llmctl.errors import InputError
from llmctl.sandbox.limits import Limits

CALL = """

import json as _json, sys as _sys
_verdict = check(_json.loads(_sys.stdin.read()))
if not (_verdict is None or isinstance(_verdict, (bool, str))):
    raise TypeError(f"check() gave {type(_verdict).__name__}; it gives True, False or a text")
print("\\n" + _json.dumps(_verdict))
"""


class ProgramFilter(Filter):
    """A file with `check(row)`: True or None keeps, False or a text (the detail) drops.

    It runs in the sandbox, once for each row, so that it may execute what an answer says. A row
    with which it fails or takes too long is dropped with that reason.
    """

    allow_exec: bool = Field(
        False, description="Whether code may be run on rows that a model wrote; it has to be said."
    )
    file: Path = Field(description="Python file that defines `check(row)`.")
    limits: Limits = Field(
        default_factory=lambda: Limits.model_validate({}), description="Limits of each run."
    )

    @model_validator(mode="after")
    def _allowed(self) -> Self:
        if not self.allow_exec:
            raise ValueError("program runs code on what a model wrote; write `allow_exec: true`")
        return self

    def model_inputs(self) -> dict[str, Path | str]:
        """The program."""
        return {"file": self.file}

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter; raises MissingError where there is no sandbox."""
        from llmctl.sandbox.run import check, run

        check()
        program = self._read() + CALL

        def judge(row: Mapping[str, Any]) -> Verdict:
            found = run(program, self.limits, stdin=json.dumps(row))
            if found.status != "done":
                return f"{found.status}: {found.why}"
            verdict = json.loads(found.output.rstrip().rpartition("\n")[2])
            if isinstance(verdict, str):
                return verdict[:200]
            return "check() says no" if verdict is False else None

        return judge

    def _read(self) -> str:
        try:
            text = self.file.read_text(encoding="utf-8")
            compile(text, str(self.file), "exec")
        except OSError as error:
            raise InputError(f"{self.file}: cannot be read: {error.strerror}") from None
        except (SyntaxError, ValueError) as error:
            line = getattr(error, "lineno", None) or 1
            raise InputError(f"{self.file}:{line}: is no Python: {error}") from None
        if "def check(" not in text:
            raise InputError(f"{self.file}: defines no `check(row)`")
        return text
