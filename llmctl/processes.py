"""Child processes that end with the process that started them, however that one ends."""

from __future__ import annotations

import ctypes
import signal
from contextlib import suppress


def die_with_parent() -> None:
    """In a child on Linux: SIGKILL comes when the parent is gone (prctl, PR_SET_PDEATHSIG)."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)
