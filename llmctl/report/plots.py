"""Plots as inline SVG: lines, bars with error bars, ranked bars, histograms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

WIDTH, HEIGHT = 640, 280
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 16, 48
COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)")
LARGEST = 1e300
"""Larger values are not drawn: a difference of two would be infinite."""


def drawable(value: float) -> bool:
    """Whether a value has a place in a plot."""
    return math.isfinite(value) and abs(value) <= LARGEST


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round values that span [low, high]."""
    if not drawable(low) or not drawable(high):
        return [0.0, 1.0]
    if high - low <= max(abs(low), abs(high)) * 1e-9 + 1e-300:  # floats have no steps between
        high = low + (abs(low) if abs(low) > 1e-290 else 1.0)
    rough = (high - low) / count
    base = 10 ** math.floor(math.log10(rough))
    step = next(m * base for m in (1, 2, 2.5, 5, 10) if m * base >= rough * 0.999)
    first = math.floor(low / step)
    found = [first * step]
    while found[-1] < high - step * 1e-9:
        found.append((first + len(found)) * step)  # no sum of steps: zero is exactly zero
    return found


def number(value: float) -> str:
    """A short number for an axis or a table."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.4g}"


class Frame:
    """The axes: maps data to pixels."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x_ticks = xs
        self.y_ticks = ys

    def x(self, value: float) -> float:
        """Pixel of a data x."""
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return LEFT + (value - low) / ((high - low) or 1) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Pixel of a data y."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT - BOTTOM - (value - low) / ((high - low) or 1) * (HEIGHT - TOP - BOTTOM)

    def axes(self, x_label: str, y_label: str, *, x_numbers: bool = True) -> list[str]:
        """Grid, numbers and names."""
        parts = []
        for tick in self.y_ticks:
            at = self.y(tick)
            parts.append(
                f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
                f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{number(tick)}</text>'
            )
        if x_numbers:
            for tick in self.x_ticks:
                parts.append(
                    f'<text x="{self.x(tick):.1f}" y="{HEIGHT - BOTTOM + 16}" '
                    f'text-anchor="middle">{number(tick)}</text>'
                )
        parts.append(
            f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" '
            f'text-anchor="middle">{escape(x_label)}</text>'
            f'<text transform="translate(13 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        )
        return parts


def figure(
    title: str, parts: Sequence[str], names: Sequence[str] = (), height: int = HEIGHT
) -> str:
    """One titled plot with its legend."""
    legend = "".join(
        f'<span><i style="background:{COLOURS[n % len(COLOURS)]}"></i>{escape(name)}</span>'
        for n, name in enumerate(names)
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="legend">{legend}</div>'
        f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg></figure>"
    )


def lines(
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    x_label: str = "",
    y_label: str = "",
) -> str:
    """One line a series; points that are not numbers are left out."""
    clean = {
        name: [(x, y) for x, y in points if drawable(x) and drawable(y)]
        for name, points in series.items()
    }
    every = [point for points in clean.values() for point in points]
    if not every:
        return figure(title, ['<text x="80" y="60">nothing was measured</text>'])
    frame = Frame(
        ticks(min(x for x, _ in every), max(x for x, _ in every)),
        ticks(min(y for _, y in every), max(y for _, y in every)),
    )
    parts = frame.axes(x_label, y_label)
    for n, points in enumerate(clean.values()):
        colour = COLOURS[n % len(COLOURS)]
        at = " ".join(f"{frame.x(x):.1f},{frame.y(y):.1f}" for x, y in points)
        parts.append(f'<polyline points="{at}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 40:
            parts += [
                f'<circle cx="{frame.x(x):.1f}" cy="{frame.y(y):.1f}" r="3" fill="{colour}">'
                f"<title>{number(x)}: {number(y)}</title></circle>"
                for x, y in points
            ]
    return figure(title, parts, list(clean) if len(clean) > 1 else ())


def bars(title: str, items: Sequence[tuple[str, float, float | None]], y_label: str = "") -> str:
    """(label, value, error or None) each as a bar; the error bar is one error up and down.

    What is not a number keeps its place and its label, without a bar.
    """
    drawn = [(v, e if e and drawable(e) else 0.0) for _, v, e in items if drawable(v)]
    if not drawn:
        return figure(title, ['<text x="80" y="60">nothing was measured</text>'])
    lows = [value - error for value, error in drawn]
    highs = [value + error for value, error in drawn]
    frame = Frame([0, len(items)], ticks(min(0.0, *lows), max(0.0, *highs)))
    parts = frame.axes("", y_label, x_numbers=False)
    zero = frame.y(0)
    for n, (label, value, error) in enumerate(items):
        left, right = frame.x(n + 0.18), frame.x(n + 0.82)
        middle = (left + right) / 2
        if drawable(value):
            top, bottom = sorted((frame.y(value), zero))
            said = number(value) + (f" ± {number(error)}" if error is not None else "")
            parts.append(
                f'<rect x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" '
                f'height="{max(bottom - top, 0.5):.1f}" fill="{COLOURS[n % len(COLOURS)]}">'
                f"<title>{escape(label)}: {said}</title></rect>"
            )
        if drawable(value) and error and drawable(error):
            up, down = frame.y(value + error), frame.y(value - error)
            parts.append(
                f'<path class="error" d="M{middle:.1f} {up:.1f}V{down:.1f}'
                f'M{middle - 6:.1f} {up:.1f}h12M{middle - 6:.1f} {down:.1f}h12"/>'
            )
        short = label if len(label) <= max(8, 84 // len(items)) else f"{label[: 84 // len(items)]}…"
        parts.append(
            f'<text x="{middle:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">'
            f"{escape(short)}</text>"
        )
    return figure(title, parts)


def histogram(title: str, series: Mapping[str, Sequence[float]], x_label: str = "") -> str:
    """Counts in about 24 equal bins, one colour a series."""
    import numpy as np

    every = [np.asarray(values, float) for values in series.values()]
    every = [values[np.abs(values) <= LARGEST] for values in every]
    if not any(map(len, every)):
        return figure(title, ['<text x="80" y="60">nothing was measured</text>'])
    xs = ticks(min(float(v.min()) for v in every if len(v)),
               max(float(v.max()) for v in every if len(v)), 6)  # fmt: skip
    low, high, bins = xs[0], xs[-1], 24
    counts = []
    for values in every:
        place = ((values - low) / ((high - low) or 1) * bins).astype(int)
        counts.append(np.bincount(np.minimum(place, bins - 1), minlength=bins).tolist())
    frame = Frame(xs, ticks(0, max(max(row) for row in counts)))
    parts = frame.axes(x_label, "count")
    width = (high - low) / bins
    for n, row in enumerate(counts):
        inset = n / len(counts)
        for b, count in enumerate(row):
            if count:
                left = frame.x(low + (b + inset) * width)
                right = frame.x(low + (b + inset + 1 / len(counts)) * width)
                parts.append(
                    f'<rect x="{left + 0.5:.1f}" y="{frame.y(count):.1f}" '
                    f'width="{right - left - 1:.1f}" height="{frame.y(0) - frame.y(count):.1f}" '
                    f'fill="{COLOURS[n % len(COLOURS)]}"><title>{count}</title></rect>'
                )
    return figure(title, parts, list(series) if len(series) > 1 else ())


def ranked(title: str, items: Sequence[tuple[str, float]], x_label: str = "") -> str:
    """Horizontal bars for long labels, in the given order, each with its number behind it."""
    shown = [(label, value) for label, value in items if drawable(value) and value >= 0]
    if not shown:
        return figure(title, ['<text x="80" y="60">nothing was measured</text>'])
    left, step, top = 230, 20, 10
    widest = max(value for _, value in shown) or 1.0
    height = top + step * len(shown) + (28 if x_label else 8)
    parts = []
    for n, (label, value) in enumerate(shown):
        y = top + n * step
        width = (WIDTH - left - 70) * value / widest
        short = label if len(label) <= 36 else f"{label[:35]}…"
        parts.append(
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{escape(short)}</text>'
            f'<rect x="{left}" y="{y + 2}" width="{max(width, 0.5):.1f}" height="{step - 6}" '
            f'fill="{COLOURS[0]}"><title>{escape(label)}: {number(value)}</title></rect>'
            f'<text x="{left + width + 6:.1f}" y="{y + 13}">{number(value)}</text>'
        )
    if x_label:
        middle = (left + WIDTH - 70) / 2
        parts.append(
            f'<text x="{middle:.0f}" y="{height - 8}" text-anchor="middle">{escape(x_label)}</text>'
        )
    return figure(title, parts, height=height)
