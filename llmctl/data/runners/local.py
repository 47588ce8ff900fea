"""This machine, on threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from llmctl.data.runners.base import Runner

T = TypeVar("T")
S = TypeVar("S")


class LocalRunner(Runner):
    """Everything in this process, on the recipe's `threads`: the kernels let go of the lock."""

    def parts(self, work: Callable[[T], S], items: Iterable[T], threads: int) -> Iterator[S]:
        """work(item) of each item, a few ahead of what was taken."""
        if threads < 2:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(threads) as pool:
            waiting: deque[Future[S]] = deque()
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
