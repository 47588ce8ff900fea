"""What a user sees while a stage runs: all on stderr, plain lines when it is not a terminal.

stdout is kept for the result; `result` is the only function that writes there.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import zip_longest
from threading import Lock
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.console import Console

T = TypeVar("T")

_state = {"quiet": False, "verbose": False, "no_progress": False}
PLAIN_EVERY = 10.0
"""Seconds between two progress lines when stderr is not a terminal."""
STEP = 1 << 12
"""Rows after which `in_steps` shows progress."""
NARROWEST = 8
"""Characters below which no column of a table is folded."""


def configure(*, quiet: bool = False, verbose: bool = False) -> None:
    """Set how much is shown; quiet shows warnings and errors only."""
    _state.update(quiet=quiet, verbose=verbose)


def is_quiet() -> bool:
    """Whether only warnings and errors are shown."""
    return _state["quiet"]


def is_verbose() -> bool:
    """Whether details are shown."""
    return _state["verbose"]


def console() -> Console:
    """The console on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


@contextmanager
def hushed() -> Iterator[None]:
    """Show warnings and errors only, inside."""
    before = dict(_state)
    configure(quiet=True)
    try:
        yield
    finally:
        _state.update(before)


def _plain(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def note(text: str) -> None:
    """A line for the user; nothing when quiet."""
    if not _state["quiet"]:
        _plain(text)


def detail(text: str) -> None:
    """A line that is shown with --verbose only."""
    if _state["verbose"]:
        _plain(text)


def warn(text: str) -> None:
    """A line that is shown even when quiet."""
    _plain(f"warning: {text}")


def error(text: str) -> None:
    """The one line of a failure (or one line per mistake)."""
    _plain(text)


def result(text: str) -> None:
    """The result, on stdout."""
    print(text, flush=True)


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stderr: rich in a terminal, aligned text elsewhere."""
    if _state["quiet"]:
        return
    if sys.stderr.isatty():
        from rich.markup import escape
        from rich.table import Table

        grid = Table(title=title or None, title_justify="left")
        for column in columns:
            grid.add_column(column, overflow="fold")
        for row in rows:
            grid.add_row(*(escape(str(cell)) for cell in row))
        console().print(grid)
        return
    for line in table_lines(title, columns, rows):
        _plain(line)


def result_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """A table on stdout; long cells are folded where that is a terminal, whole elsewhere."""
    for line in table_lines(title, columns, rows, stdout_width()):
        result(line)


def stdout_width() -> int | None:
    """Characters in a line of the terminal that shows stdout; None for a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def table_lines(
    title: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    width: int | None = None,
) -> Iterator[str]:
    """A table as aligned plain text, its cells folded to lines of `width` characters."""
    cells = [[str(c) for c in columns], *[[str(c) for c in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    if width is not None:
        widths = fitted(widths, width - 2 * (len(columns) - 1))
    if title:
        yield title
    for index, row in enumerate(cells):
        for parts in zip_longest(*map(folded, row, widths), fillvalue=""):
            yield "  ".join(part.ljust(w) for part, w in zip(parts, widths, strict=True)).rstrip()
        if index == 0:
            yield "  ".join("-" * w for w in widths)


def fitted(widths: list[int], room: int) -> list[int]:
    """Widths of columns that have so many characters together: the widest ones give way."""
    widths = list(widths)
    while sum(widths) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return widths


def folded(cell: str, width: int) -> list[str]:
    """The lines of a cell; words that are too long are broken."""
    if len(cell) <= width:
        return [cell]
    return textwrap.wrap(cell, width, break_on_hyphens=False)


@contextmanager
def no_progress() -> Iterator[None]:
    """Progress inside is not shown: something else has the screen."""
    before = _state["no_progress"]
    _state["no_progress"] = True
    try:
        yield
    finally:
        _state["no_progress"] = before


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Callable[..., None]]:
    """Yield `advance(n=1, note="")`; a bar in a terminal, a line every ten seconds elsewhere."""
    if _state["quiet"] or _state["no_progress"]:
        yield lambda n=1, note="": None
    elif sys.stderr.isatty():
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
        )
        with Progress(*columns, console=console(), transient=True) as bar:
            task = bar.add_task(label, total=total, note="")
            yield lambda n=1, note="": bar.update(task, advance=n, note=note)
    else:
        yield _plain_progress(label, total)


def in_steps(advance: Callable[[int], object]) -> Callable[[int], None]:
    """Progress of many rows at a time: to show it for each takes longer than to read a row."""
    waiting = 0

    def tell(rows: int = 1) -> None:
        nonlocal waiting
        waiting += rows
        if waiting >= STEP:
            advance(waiting)
            waiting = 0

    return tell


def counted(label: str, rows: Iterable[T], total: int) -> Iterator[T]:
    """The rows, with their progress while they are gone through."""
    with progress(label, total) as advance:
        tell = in_steps(advance)
        for row in rows:
            yield row
            tell(1)


def _plain_progress(label: str, total: int | None) -> Callable[..., None]:
    start, lock = time.monotonic(), Lock()
    state = {"done": 0, "shown": start}

    def advance(n: int = 1, note: str = "") -> None:
        with lock:
            tell(n, note)

    def tell(n: int, note: str) -> None:
        state["done"] += n
        now = time.monotonic()
        finished = total is not None and state["done"] >= total and n
        if now - state["shown"] < PLAIN_EVERY and not (finished and now - start > 2):
            return
        state["shown"] = now
        done = int(state["done"])
        of = f"/{total}" if total is not None else ""
        left = ""
        if total and 0 < done < total:
            left = f", {(now - start) / done * (total - done):.0f} s left"
        _plain(f"{label}: {done}{of} in {now - start:.0f} s{left}{'  ' + note if note else ''}")

    return advance
