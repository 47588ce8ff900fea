"""What is seen while a model trains: a live table in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from llmctl import ui

if TYPE_CHECKING:
    from rich.table import Table

Facts = Mapping[str, float]
"""Of one step: loss, grad_norm, learning_rate, tokens_per_second, memory_gb, eval_loss; where
answers are sampled, reward and kl."""
Show = Callable[[int, Facts], None]
BARS = "▁▂▃▄▅▆▇█"
KEPT = 60
"""Steps in the curve of a terminal."""


def memory_gb() -> float:
    """What this process holds now, in GB: of the GPU's memory where it uses one, else resident."""
    import torch

    if torch.cuda.is_available():
        return torch.cuda.memory_allocated() / 1e9
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except (OSError, IndexError, ValueError):
        return 0.0
    import os

    return pages * os.sysconf("SC_PAGE_SIZE") / 1e9


@contextmanager
def training(total: int) -> Iterator[Show]:
    """Yield `show(step, facts)`."""
    if ui.is_quiet():
        yield lambda step, facts: None
    elif sys.stderr.isatty():
        with _live(total) as show:
            yield show
    else:
        with ui.progress("training", total) as advance:
            yield _plain(advance)


def _plain(advance: Callable[..., None]) -> Show:
    shown = 0

    def show(step: int, facts: Facts) -> None:
        nonlocal shown
        advance(step - shown, ", ".join(words(facts)))
        shown = step

    return show


def words(facts: Facts) -> list[str]:
    """The facts of a step as a line has them."""
    forms = (
        ("loss", "loss {:.3f}"),
        ("eval_loss", "held-out loss {:.3f}"),
        ("reward", "reward {:.3f}"),
        ("kl", "KL {:.3f}"),
        ("grad_norm", "gradient norm {:.2f}"),
        ("tokens_per_second", "{:.0f} tokens/s"),
        ("memory_gb", "{:.1f} GB"),
    )
    return [form.format(facts[key]) for key, form in forms if key in facts]


def curve(values: list[float]) -> str:
    """The values as a line of bars, the lowest and the highest filling its height."""
    low, high = min(values), max(values)
    scale = (len(BARS) - 1) / (high - low) if high > low else 0.0
    return "".join(BARS[round((value - low) * scale)] for value in values)


@contextmanager
def _live(total: int) -> Iterator[Show]:
    from rich.live import Live

    started, first = time.monotonic(), -1
    losses: list[float] = []
    latest: dict[str, float] = {}
    with Live(console=ui.console(), refresh_per_second=4, transient=True) as live:

        def show(step: int, facts: Facts) -> None:
            nonlocal first
            first = step - 1 if first < 0 else first
            latest.update(facts)
            if "loss" in facts:
                losses.append(facts["loss"])
                del losses[:-KEPT]
            elapsed = time.monotonic() - started
            left = elapsed / max(step - first, 1) * (total - step)
            live.update(_table(step, total, elapsed, left, latest, losses))

        yield show


def _table(
    step: int, total: int, elapsed: float, left: float, latest: Facts, losses: list[float]
) -> Table:
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    table.add_row("training", f"{step} of {total} steps", ProgressBar(total, step, width=40))
    table.add_row("time", f"{elapsed:.0f} s", f"{left:.0f} s left")
    table.add_row("loss", f"{losses[-1]:.3f}" if losses else "", curve(losses) if losses else "")
    others = words({key: value for key, value in latest.items() if key != "loss"})
    table.add_row("", "", ", ".join(others))
    return table
