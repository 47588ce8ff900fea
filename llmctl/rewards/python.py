"""A function of your own: any `module:function` that Python finds."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from inspect import getattr_static, isclass, isfunction
from numbers import Real
from operator import attrgetter
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from llmctl.errors import InputError
from llmctl.judges.base import Answered
from llmctl.rewards.base import Rate, Reward


class PythonReward(Reward):
    """`function(answer: str, row: dict) -> float | None`, called for each answer."""

    function: str = Field(
        pattern=r"^[\w.]+:\w+(\.\w+)*$",
        description="`module:function` or `module:Class.method` (of an instance made without "
        "arguments); the module is looked for in the working directory too.",
    )

    @contextmanager
    def open(self, cache: Path) -> Iterator[Rate]:
        """Import the function."""
        function = self._found()

        def rate(answers: Sequence[Answered]) -> list[float | None]:
            return [self._number(self._called(function, each)) for each in answers]

        yield rate

    def _found(self) -> Callable[..., Any]:
        module, _, name = self.function.partition(":")
        here = str(Path.cwd())
        if here not in sys.path:
            sys.path.insert(0, here)
        try:
            found = self._of(import_module(module), name)
        except InputError:
            raise
        except (ImportError, AttributeError) as error:
            raise InputError(f"reward python: {self.function}: {error}") from None
        except Exception as error:  # whatever the module does when it is imported
            raise InputError(self._raised(error)) from error
        return found

    def _of(self, module: Any, name: str) -> Callable[..., Any]:
        """The function; an ordinary method gets an instance of its class."""
        *around, last = name.split(".")
        owner = attrgetter(".".join(around))(module) if around else module
        found = getattr(owner, last)
        if isclass(owner) and isfunction(getattr_static(owner, last)):
            found = getattr(owner(), last)
        if not callable(found):
            raise InputError(f"reward python: {self.function} is no function")
        return cast(Callable[..., Any], found)

    def _called(self, function: Callable[..., Any], each: Answered) -> Any:
        try:
            return function(each.answer, dict(each.row))
        except Exception as error:  # the function is the user's: what it raises is too
            raise InputError(self._raised(error)) from error

    def _raised(self, error: Exception) -> str:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        return (
            f"reward python: {self.function} raised {what}; it is called as "
            f"function(answer, row) (--debug shows where)"
        )

    def _number(self, value: Any) -> float | None:
        if value is None:
            return None
        number = value
        with suppress(ValueError, RuntimeError):  # of several numbers
            number = value.item() if hasattr(value, "item") else value  # numpy's, torch's
        if not isinstance(number, Real) or not math.isfinite(number):
            raise InputError(f"reward python: {self.function} gave {value!r}, no number or None")
        return float(number)
