"""How many calls run at once at an endpoint that may say `too many`.

Additive increase, multiplicative decrease (Chiu and Jain 1989): each answer adds one call per
round, a 429 halves the number, at most once a second. The endpoint's Retry-After holds everyone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

HALVED_EVERY = 1.0
"""Seconds; calls that were under way at a halving bring their own 429, which is no news."""


class Pace:
    """Between 1 and `most` calls at once."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.allowed = float(most)
        self._running = 0
        self._not_before = 0.0
        self._halved = -HALVED_EVERY
        self._turn = threading.Condition()

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a turn and hold it."""
        with self._turn:
            while True:
                wait = self._not_before - time.monotonic()
                if wait <= 0 and self._running < int(self.allowed):
                    break
                self._turn.wait(wait if wait > 0 else 1.0)
            self._running += 1
        try:
            yield
        finally:
            with self._turn:
                self._running -= 1
                self._turn.notify()

    def answered(self) -> None:
        """A call went well."""
        if self.allowed < self.most:
            with self._turn:
                self.allowed = min(self.most, self.allowed + 1 / self.allowed)
                self._turn.notify()

    def refused(self, after: float) -> None:
        """The endpoint said `too many`; `after` is its Retry-After in seconds, 0 without one."""
        now = time.monotonic()
        with self._turn:
            if now - self._halved >= HALVED_EVERY:
                self._halved = now
                self.allowed = max(1.0, self.allowed / 2)
            self._not_before = max(self._not_before, now + after)
