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
        """work(item) of each item, a few ahead of what was taken; the caller's thread helps."""
        if threads < 2:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(threads - 1) as pool:
            waiting: deque[tuple[Future[S], T]] = deque()
            for item in items:
                waiting.append((pool.submit(work, item), item))
                if len(waiting) > 2 * threads:
                    yield _first(work, waiting)
            while waiting:
                yield _first(work, waiting)


def _first(work: Callable[[T], S], waiting: deque[tuple[Future[S], T]]) -> S:
    """The next result; until it is there, what no thread has begun is worked on here."""
    head, _ = waiting[0]
    for at, (future, item) in enumerate(waiting):
        if head.done():
            break
        if future.cancel():
            waiting[at] = _done(work, item), item
    return waiting.popleft()[0].result()


def _done(work: Callable[[T], S], item: T) -> Future[S]:
    """The same as a thread leaves it: an error is raised when it is this item's turn."""
    future: Future[S] = Future()
    try:
        future.set_result(work(item))
    except Exception as error:
        future.set_exception(error)
    return future
