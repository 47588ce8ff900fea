"""What a run spends on models: calls, tokens, money, time and failures, and where it stops."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmctl.errors import LlmctlError

if TYPE_CHECKING:
    from llmctl.engines.base import Reply

FEW = 20
"""So many failed calls are borne before their share is looked at."""


class CallError(LlmctlError):
    """A call that failed for good; whoever asked may go on without its answer."""


class OutOfBudgetError(LlmctlError):
    """A limit of the recipe is reached; what was answered is kept."""


def cost(prompt_tokens: int, completion_tokens: int, price: Mapping[str, float]) -> float:
    """What tokens cost at a price per million of them."""
    tokens = {"input": prompt_tokens, "output": completion_tokens}
    return sum(price.get(name, 0.0) * count for name, count in tokens.items()) / 1e6


@dataclass
class Spending:
    """One run's account; safe to use from several threads. None is no limit."""

    max_cost: float | None = None
    max_calls: int | None = None
    max_minutes: float | None = None
    max_failures: float = 1.0
    """Share of the calls that may fail."""
    counts: Counter[str] = field(default_factory=Counter)
    """calls, cached_calls, failed_calls, prompt_tokens, completion_tokens; a key appears with its
    first count."""
    cost: float = 0.0
    """Of the calls of this run; an answer from the cache is free."""
    stopped: str = ""
    """Why no further call is made."""

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._begin = time.monotonic()
        self._admitted = 0
        self._written = 0
        self._last = ""

    def admit(self) -> None:
        """To be called before each call that is paid for; raises when a limit is reached."""
        with self._lock:
            self.stopped = self.stopped or self._reached()
            if self.stopped:
                raise OutOfBudgetError(self.stopped)
            self._admitted += 1

    def seconds_left(self) -> float:
        """Until `max_minutes` is reached; endless without it."""
        if self.max_minutes is None:
            return math.inf
        return max(0.0, 60 * self.max_minutes - (time.monotonic() - self._begin))

    def go_on(self) -> None:
        """To be called before a call is tried again; raises when the time is over."""
        if not self.seconds_left():
            with self._lock:
                self.stopped = self.stopped or self._reached()
            raise OutOfBudgetError(self.stopped)

    def _reached(self) -> str:
        minutes = (time.monotonic() - self._begin) / 60
        limits = [
            ("max_calls", self.max_calls, float(self._admitted)),
            ("max_cost", self.max_cost, self.cost),
            ("max_minutes", self.max_minutes, minutes),
        ]
        for name, limit, spent in limits:
            if limit is not None and spent >= limit:
                return f"{name} {limit:g} is reached ({self.told()}); run again to continue"
        return ""

    def add(self, reply: Reply, price: Mapping[str, float]) -> None:
        """Count an answer."""
        with self._lock:
            self.counts.update(
                calls=1,
                cached_calls=int(reply.cached),
                prompt_tokens=reply.prompt_tokens,
                completion_tokens=reply.completion_tokens,
            )
            if reply.cached:
                return
            self._written += reply.completion_tokens
            self.cost += cost(reply.prompt_tokens, reply.completion_tokens, price)

    def note(self, what: str) -> None:
        """Count something else, such as repairs."""
        with self._lock:
            self.counts[what] += 1

    def fail(self, error: LlmctlError) -> None:
        """Count a call that failed for good; too many end the run."""
        with self._lock:
            self.counts["failed_calls"] += 1
            self._last = str(error)
            failed = self.counts["failed_calls"]
            if failed > FEW and self._too_many():
                self.stopped = self.stopped or self._failures()
                raise LlmctlError(self.stopped)

    def check(self) -> None:
        """To be called when everything is asked: raises when too much failed or a limit was hit."""
        if self.stopped:
            raise OutOfBudgetError(self.stopped)
        if self._too_many():
            raise LlmctlError(self._failures())

    def _too_many(self) -> bool:
        failed = self.counts["failed_calls"]
        return failed > self.max_failures * (failed + self.counts["calls"])

    def _failures(self) -> str:
        failed, answered = self.counts["failed_calls"], self.counts["calls"]
        why = f"; the last: {self._last}" if self._last else ""
        return (
            f"{failed} of {failed + answered} calls failed, more than max_failures "
            f"{self.max_failures:g}{why}; run again to ask only for what is missing"
        )

    def told(self) -> str:
        """The account in one line."""
        seconds = max(time.monotonic() - self._begin, 1e-9)
        words = [f"{self.counts['calls'] - self.counts['cached_calls']} calls"]
        if self.counts["cached_calls"]:
            words.append(f"{self.counts['cached_calls']} from the cache")
        words.append(f"{self._written / seconds:.0f} tokens/s")
        if self.cost:
            words.append(f"cost {self.cost:.4g}")
        if self.counts["failed_calls"]:
            words.append(f"{self.counts['failed_calls']} failed")
        return ", ".join(words)


_current: ContextVar[Spending | None] = ContextVar("_current", default=None)


@contextmanager
def charged(spending: Spending) -> Iterator[Spending]:
    """Engines that are opened inside charge this account."""
    token = _current.set(spending)
    try:
        yield spending
    finally:
        _current.reset(token)


def current() -> Spending | None:
    """The account that a new session charges."""
    return _current.get()
