"""Code in answers: where it stands, and whether it passes tests in the sandbox."""

from __future__ import annotations

from llmctl.data.filters.parses import fences
from llmctl.sandbox.limits import Limits
from llmctl.sandbox.run import Outcome, run

PYTHON = ("python", "py", "python3")


def code_of(answer: str) -> str:
    """The fenced Python of an answer, one block after the other; without fences, all of it.

    Fences that name no language count where none names Python: beside it they show what it prints.
    """
    found = list(fences(answer))
    blocks = [text or "" for language, text in found if language in PYTHON]
    blocks = blocks or [text or "" for language, text in found if not language]
    return "\n\n".join(blocks) if blocks else answer


def tested(code: str, tests: str, entry_point: str | None, limits: Limits) -> Outcome:
    """How code and tests end; `done` means that every test passed.

    Tests in HumanEval's form define `check(candidate)`, which is called with the entry point
    (Chen et al. 2021); others are run as they are.
    """
    call = f"\ncheck({entry_point})\n" if entry_point else ""
    return run(f"{code}\n\n{tests}\n{call}", limits)
