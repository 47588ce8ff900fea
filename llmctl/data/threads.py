"""Work shared by the threads of this process."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from threading import Thread
from typing import TypeVar

from llmctl import ui

T = TypeVar("T")
S = TypeVar("S")


def mapped(work: Callable[[T], S], items: list[T], threads: int, label: str = "") -> list[S]:
    """work(item) of each item, in order, on threads: the kernels let go of the interpreter.

    The caller's thread is one of them: one that only waits is woken for each item, and takes a
    core from those that work. A `label` shows progress. The first item's error is raised.
    """
    found: dict[int, S] = {}
    errors: dict[int, BaseException] = {}
    waiting = iter(range(len(items)))

    def drain(advance: Callable[[], object]) -> None:
        at = 0
        try:
            for at in waiting:
                if errors:
                    return
                found[at] = work(items[at])
                advance()
        except BaseException as error:
            errors[at] = error

    shown = label and len(items) > 1
    with ui.progress(label, len(items)) if shown else nullcontext(lambda: None) as advance:
        others = min(threads, len(items)) - 1
        helpers = [Thread(target=drain, args=(advance,)) for _ in range(others)]
        for each in helpers:
            each.start()
        drain(advance)
        for each in helpers:
            each.join()
    if errors:
        raise errors[min(errors)]
    return [found[at] for at in range(len(items))]
