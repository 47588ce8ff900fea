"""How a command ends: every error is one line on stderr with its exit code, and so is Ctrl-C.

As cli.py, it imports typer and nothing else.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import typer

UNUSABLE = (
    errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST,
    errno.ENAMETOOLONG,
)  # fmt: skip
"""Errors of a path that the user gave: it is a folder, in a file, or may not be written."""


@contextmanager
def reporting(*, quiet: bool = False, verbose: bool = False, debug: bool = False) -> Iterator[None]:
    """Turn every error into one line on stderr and its exit code."""
    from llmctl import ui
    from llmctl.errors import INTERRUPTED, LlmctlError

    ui.configure(quiet=quiet, verbose=verbose)
    seen: list[int] = []
    before = {number: _as_interrupt(number, seen) for number in (signal.SIGINT, signal.SIGTERM)}
    shown, sys.excepthook = sys.excepthook, _without_interrupts
    try:
        yield
    except typer.Exit:
        raise
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        leave(INTERRUPTED if seen else 1)
    except (Exception, KeyboardInterrupt) as error:
        # a library that is interrupted while it is imported tells of a failed import
        if seen or isinstance(error, KeyboardInterrupt):
            ui.error("interrupted; run again to continue")
            leave(INTERRUPTED)
        if debug:
            raise
        if isinstance(error, LlmctlError):
            ui.error(str(error))
            leave(error.exit_code)
        leave(_unforeseen(error))
    finally:
        if not seen:
            sys.excepthook = shown
        for number, handler in before.items():
            if seen:  # a second Ctrl-C, while threads and libraries end, ends at once
                handler = signal.SIG_DFL
            if handler is not None:  # None: it was not set from Python
                signal.signal(number, handler)


def _unforeseen(error: BaseException) -> int:
    """Tell of an error that no code of ours has explained; its exit code."""
    from llmctl import ui
    from llmctl.digest import cache_folder
    from llmctl.errors import is_disk_full

    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        ui.error(f"{error.filename or 'stdout'}: {error.strerror}")
        return 1
    if is_disk_full(error):
        ui.error("the disk is full; free some space and run again")
        return 1
    if isinstance(error, MemoryError):
        ui.error("the memory ran out; end other programs, or give the recipe less to hold at once")
        return 1
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        ui.error("too many files are open; raise the limit with `ulimit -n 1024` and run again")
        return 1
    if isinstance(error, FileNotFoundError) and not _has_place():
        ui.error("the working directory is not there any more; change to another one")
        return 2
    if isinstance(error, OSError) and str(error.filename).startswith(str(cache_folder())):
        ui.error(f"{cache_folder()}: the cache cannot be kept there; set LLMCTL_CACHE to a folder")
        return 2
    if isinstance(error, OSError) and error.errno in UNUSABLE and error.filename:
        ui.error(f"{error.filename}: cannot be used here: {error.strerror}")
        return 2
    what = " ".join(str(error).split())[:300]
    ui.error(
        f"unexpected {type(error).__name__}: {what} "
        "(run again with --debug for the traceback, and please report it)"
    )
    return 1


def _has_place() -> bool:
    """Whether the working directory is still there."""
    try:
        return bool(os.getcwd())
    except OSError:
        return False


def _as_interrupt(number: signal.Signals, seen: list[int]) -> Any:
    """End on a signal as on Ctrl-C: what is open is closed in order; the handler before it."""
    here = os.getpid()
    before = signal.getsignal(number)

    def interrupt(*_: Any) -> NoReturn:
        if os.getpid() != here:  # a forked copy, which whoever made it ends
            os._exit(128 + number)
        seen.append(number)
        raise KeyboardInterrupt

    if before != signal.SIG_IGN:  # as under nohup
        signal.signal(number, interrupt)
    return before


def _without_interrupts(kind: type[BaseException], *rest: Any) -> None:
    """Libraries in C show what interrupted their import; it is told in our own line."""
    if not issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, *rest)


def leave(code: int) -> NoReturn:
    """End the command with an exit code."""
    raise typer.Exit(code)
