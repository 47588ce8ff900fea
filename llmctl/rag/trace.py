"""What a search did, step by step: for `--explain`, for logs, and for people who wonder."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Trace:
    """Steps in their order, each with its milliseconds and what it decided."""

    def __init__(self) -> None:
        self.steps: list[dict[str, Any]] = []

    @contextmanager
    def step(self, name: str) -> Iterator[dict[str, Any]]:
        """Times a step; what is put into the mapping is shown."""
        facts: dict[str, Any] = {"step": name}
        self.steps.append(facts)
        begin = time.perf_counter()
        try:
            yield facts
        finally:
            facts["ms"] = round(1000 * (time.perf_counter() - begin), 2)


def lines(steps: Iterable[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """(step, milliseconds, what it decided) of each step, for a table."""
    for facts in steps:
        told = [f"{k}={_short(v)}" for k, v in facts.items() if k not in ("step", "ms")]
        yield str(facts["step"]), f"{facts['ms']:.1f}", ", ".join(told)


def _short(value: Any) -> str:
    text = "; ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
    return text if len(text) <= 160 else text[:159] + "…"
