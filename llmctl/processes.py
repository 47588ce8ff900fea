"""Processors, and child processes that end with the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import suppress


def processors() -> int:
    """How many this process may use; where the system does not tell (macOS), how many there are."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def die_with_parent(parent: int | None = None) -> None:
    """In a child on Linux: SIGKILL comes when the parent is gone (prctl, PR_SET_PDEATHSIG).

    With the `parent`'s number, also when it was gone before this call.
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def signal_name(number: int) -> str:
    """SIGKILL for 9; the number where it has no name, as signals for real time have none."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
