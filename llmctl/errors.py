"""The errors that a user can meet, each one line, each with its exit code.

    LlmctlError        1  the run failed
    |- RecipeError     2  the recipe or the command line is wrong (says file:line)
    |- InputError      2  a file that the recipe names is wrong (says file:line)
    |  `- EmptyError   2  an input holds nothing that can be used
    |- MissingError    3  an extra, a GPU or a service is missing (says the command that fixes it)
    |- GateError       4  a quality gate failed
    `- InconclusiveError 5  a gate cannot be decided, or too much went unmeasured

An interrupted run ends with 130. Anything else is our own mistake and shows a traceback.
"""

from __future__ import annotations

import errno

INTERRUPTED = 130
FULL = ("No space left on device", "disk is full")
"""How libraries tell of a full disk in errors of their own, SQLite and safetensors among them."""


class LlmctlError(Exception):
    """A run that failed for a reason that a user can act on."""

    exit_code = 1


class RecipeError(LlmctlError):
    """The recipe or an option is wrong; the message may have one line per mistake."""

    exit_code = 2


class InputError(LlmctlError):
    """An input file cannot be used as what the recipe says it is."""

    exit_code = 2


class EmptyError(InputError):
    """An input holds nothing that can be used; whoever follows a stream waits for more."""


class MissingError(LlmctlError):
    """Something has to be installed or started first."""

    exit_code = 3


class GateError(LlmctlError):
    """A measured quality is below what the recipe asks."""

    exit_code = 4


class InconclusiveError(LlmctlError):
    """A gate cannot be decided from what was measured."""

    exit_code = 5


def is_disk_full(error: BaseException) -> bool:
    """Whether an error of the system or of a library says that nothing more can be written."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    return any(text in str(error) for text in FULL)


def install_hint(extra: str) -> str:
    """The command that installs an extra; without one, the package itself."""
    if not extra:
        return "pip install --force-reinstall llmctl-toolkit"
    return f"pip install 'llmctl-toolkit[{extra}]'"
