"""Plots as HTML with inline SVG: lines, bars with error bars, ranked bars, histograms.

Places across are in percent and heights in pixels: a plot fills any page, and its text keeps its
size on a narrow one.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

HEIGHT = 230
"""Pixels between the axes."""
COLOURS = ("var(--a)", "var(--b)", "var(--c)", "var(--d)", "var(--e)")
LARGEST = 1e300
"""Larger values are not drawn: a difference of two would be infinite."""
BINS = 30
"""Most bins of a histogram."""
STYLE = """
figure{margin:1rem 0;background:var(--card);border-radius:8px;padding:.8rem}
figcaption{font-weight:600}.legend span{margin-right:1rem;color:var(--soft)}
.legend i{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px}
.plot{display:block;overflow:visible;width:calc(100% - 76px);margin:16px 14px 0 62px;
font:12px system-ui,sans-serif}.plot svg{overflow:visible}.plot text,.below{fill:var(--soft);
color:var(--soft);font-size:12px}.grid{stroke:var(--line)}.error{stroke:var(--ink);
stroke-width:1.5}.below{display:grid;grid-auto-flow:column;grid-auto-columns:1fr;
margin:6px 14px 0 62px;line-height:1.25;text-align:center;overflow-wrap:anywhere}
.below span{padding:0 2px}.ticks{margin-top:22px}
.ranked{display:grid;grid-template-columns:fit-content(45%) 1fr;gap:4px 8px;margin-top:.6rem;
font-size:13px;line-height:1.25;overflow-wrap:anywhere}.ranked span{color:var(--soft);
text-align:right}.ranked div{display:flex;align-items:center;gap:6px}
.ranked i{flex:none;height:14px;background:var(--a)}
@media(max-width:600px){.odd{display:none}}
"""


def drawable(value: float) -> bool:
    """Whether a value has a place in a plot."""
    return math.isfinite(value) and abs(value) <= LARGEST


def are_whole(values: Iterable[float]) -> bool:
    """Whether values are counts, or other whole numbers: no tick belongs between two of them."""
    return all(abs(value) < 1e15 and value == int(value) for value in values)


def ticks(low: float, high: float, count: int = 5, *, whole: bool = False) -> list[float]:
    """Round values that span [low, high]; `whole` has no fractions among them."""
    if not drawable(low) or not drawable(high):
        return [0.0, 1.0]
    if high - low <= max(abs(low), abs(high)) * 1e-9 + 1e-300:  # floats have no steps between
        high = low + (abs(low) if abs(low) > 1e-290 else 1.0)
    rough = (high - low) / count
    if whole:
        rough = max(rough, 1.0)
    base = 10 ** math.floor(math.log10(rough))
    factors = (1, 2, 5, 10) if whole and base < 10 else (1, 2, 2.5, 5, 10)
    step = next(m * base for m in factors if m * base >= rough * 0.999)
    first = math.floor(low / step)
    found = [first * step]
    while found[-1] < high - step * 1e-9:
        found.append((first + len(found)) * step)  # no sum of steps: zero is exactly zero
    return found


def upright(values: Sequence[float]) -> list[float]:
    """Ticks of the upright axis; floats that are all 0 or 1 are shares, not counts."""
    if set(values) <= {0, 1} and any(isinstance(value, float) for value in values):
        return ticks(0, 1)
    return ticks(min(values), max(values), whole=are_whole(values))


def number(value: float) -> str:
    """A short number for an axis or a table."""
    if not math.isfinite(value):
        return "unknown" if math.isnan(value) else "∞" if value > 0 else "-∞"
    if value == int(value) and abs(value) < 1e6:
        return f"{int(value):,}"
    return f"{value:.4g}"


class Frame:
    """The axes: maps data to percent across and to pixels down."""

    def __init__(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        self.x_ticks = xs
        self.y_ticks = ys

    def x(self, value: float) -> float:
        """Percent of a data x."""
        low, high = self.x_ticks[0], self.x_ticks[-1]
        return 100 * (value - low) / ((high - low) or 1)

    def y(self, value: float) -> float:
        """Pixel of a data y."""
        low, high = self.y_ticks[0], self.y_ticks[-1]
        return HEIGHT * (1 - (value - low) / ((high - low) or 1))

    def axes(self, y_label: str, *, x_numbers: bool = True, shift: float = 0.0) -> list[str]:
        """Grid, numbers and the name of the upright axis; `shift` moves the numbers across."""
        parts = [
            f'<text transform="translate(-50 {HEIGHT / 2:.0f}) rotate(-90)" '
            f'text-anchor="middle">{escape(y_label)}</text>'
        ]
        for tick in self.y_ticks:
            at = self.y(tick)
            parts.append(
                f'<line class="grid" x1="0" x2="100%" y1="{at:.1f}" y2="{at:.1f}"/>'
                f'<text x="-6" y="{at + 4:.1f}" text-anchor="end">{number(tick)}</text>'
            )
        shown = [tick for tick in self.x_ticks if x_numbers and tick + shift <= self.x_ticks[-1]]
        for n, tick in enumerate(shown):
            odd = ' class="odd"' if n % 2 else ""  # every second number has room on a narrow page
            parts.append(
                f'<text{odd} x="{self.x(tick + shift):.2f}%" y="{HEIGHT + 16}" '
                f'text-anchor="middle">{number(tick)}</text>'
            )
        return parts

    def bar(self, left: float, right: float, value: float, colour: int, said: str) -> str:
        """A bar from zero to a value, between two data x, with what it says when pointed at."""
        top, bottom = sorted((self.y(value), self.y(0)))
        return (
            f'<rect x="{self.x(left):.2f}%" y="{top:.1f}" '
            f'width="{self.x(right) - self.x(left):.2f}%" height="{max(bottom - top, 0.5):.1f}" '
            f'fill="{COLOURS[colour % len(COLOURS)]}"><title>{escape(said)}</title></rect>'
        )


def figure(title: str, body: str, names: Sequence[str] = ()) -> str:
    """One titled plot with its legend."""
    legend = "".join(
        f'<span><i style="background:{COLOURS[n % len(COLOURS)]}"></i>{escape(name)}</span>'
        for n, name in enumerate(names)
    )
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><div class="legend">{legend}</div>'
        f"{body}</figure>"
    )


def nothing(title: str) -> str:
    """In place of a plot of no numbers."""
    return figure(title, "<p>nothing was measured</p>")


def drawing(title: str, parts: Sequence[str], below: Sequence[str], *, numbers: bool) -> str:
    """What lies between the axes, and below them the numbers' name or a label for each bar."""
    labels = "".join(f"<span>{escape(label)}</span>" for label in below)
    return (
        f'<svg class="plot" height="{HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"{''.join(parts)}</svg>"
        f'<div class="below{" ticks" if numbers else ""}">{labels}</div>'
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
        return nothing(title)
    xs, ys = zip(*every, strict=True)
    frame = Frame(ticks(min(xs), max(xs), whole=are_whole(xs)), upright(ys))
    parts = frame.axes(y_label)
    for n, points in enumerate(clean.values()):
        colour = COLOURS[n % len(COLOURS)]
        at = " ".join(f"{frame.x(x):.2f},{frame.y(y):.1f}" for x, y in points)
        parts.append(
            f'<svg viewBox="0 0 100 {HEIGHT}" preserveAspectRatio="none"><polyline points="{at}" '
            f'fill="none" stroke="{colour}" stroke-width="2" vector-effect="non-scaling-stroke"/>'
            "</svg>"
        )
        if len(points) <= 40:
            parts += [
                f'<circle cx="{frame.x(x):.2f}%" cy="{frame.y(y):.1f}" r="3" fill="{colour}">'
                f"<title>{number(x)}: {number(y)}</title></circle>"
                for x, y in points
            ]
    names = list(clean) if len(clean) > 1 else ()
    return figure(title, drawing(title, parts, [x_label], numbers=True), names)


def bars(title: str, items: Sequence[tuple[str, float, float | None]], y_label: str = "") -> str:
    """(label, value, error or None) each as a bar; the error bar is one error up and down.

    What is not a number keeps its place and its label, without a bar.
    """
    drawn = [(v, e if e and drawable(e) else 0) for _, v, e in items if drawable(v)]
    if not drawn:
        return nothing(title)
    ends = [0, *(value - error for value, error in drawn), *(v + error for v, error in drawn)]
    frame = Frame([0, len(items)], upright(ends))
    parts = frame.axes(y_label, x_numbers=False)
    for n, (label, value, error) in enumerate(items):
        if not drawable(value):
            continue
        said = f"{label}: {number(value)}" + (f" ± {number(error)}" if error is not None else "")
        parts.append(frame.bar(n + 0.18, n + 0.82, value, n, said))
        if error and drawable(error):
            middle, up, down = frame.x(n + 0.5), frame.y(value + error), frame.y(value - error)
            for left, right, y1, y2 in ((0, 0, up, down), (-1, 1, up, up), (-1, 1, down, down)):
                parts.append(
                    f'<line class="error" x1="{middle + left:.2f}%" x2="{middle + right:.2f}%" '
                    f'y1="{y1:.1f}" y2="{y2:.1f}"/>'
                )
    return figure(title, drawing(title, parts, [label for label, *_ in items], numbers=False))


def histogram(title: str, series: Mapping[str, Sequence[float]], x_label: str = "") -> str:
    """Counts in at most BINS equal bins, which hold their left end; one colour a series."""
    import numpy as np

    every = [np.asarray(values, float) for values in series.values()]
    every = [values[np.abs(values) <= LARGEST] for values in every]
    together = np.concatenate([*every, np.empty(0)])
    if not len(together):
        return nothing(title)
    low, high = float(together.min()), float(together.max())
    counts = are_whole(together.tolist())
    own = counts and high - low < BINS  # each value has its bin, the last one too
    xs = ticks(low, high + own, 6, whole=counts)
    low, span, steps = xs[0], xs[-1] - xs[0], len(xs) - 1
    parts = max(
        n for n in (1, 2, 4, 5, 10)
        if steps * n <= BINS and (n == 1 or not counts or span / steps % n == 0)
    )  # fmt: skip
    bins = steps * parts
    width = span / bins
    found = []
    for values in every:
        place = (values - low) // width if counts else (values - low) / span * bins
        found.append(np.bincount(np.minimum(place.astype(int), bins - 1), minlength=bins).tolist())
    frame = Frame(xs, ticks(0, max(map(max, found)), whole=True))
    drawn = frame.axes("count", shift=0.5 if own and width == 1 else 0.0)
    for n, row in enumerate(found):
        for b, count in enumerate(row):
            if count:
                left = low + (b + n / len(found)) * width
                drawn.append(
                    frame.bar(left, left + 0.94 * width / len(found), count, n, str(count))
                )
    names = list(series) if len(series) > 1 else ()
    return figure(title, drawing(title, drawn, [x_label], numbers=True), names)


def ranked(title: str, items: Sequence[tuple[str, float]], x_label: str = "") -> str:
    """Horizontal bars for long labels, in the given order, each with its number behind it."""
    shown = [(label, value) for label, value in items if drawable(value) and value >= 0]
    if not shown:
        return nothing(title)
    widest = max(value for _, value in shown) or 1.0
    rows = "".join(
        f"<span>{escape(label)}</span>"
        f'<div><i style="width:{max(80 * value / widest, 0.2):.1f}%"></i>{number(value)}</div>'
        for label, value in shown
    )
    below = f'<div class="below"><span>{escape(x_label)}</span></div>'
    return figure(title, f'<div class="ranked">{rows}</div>{below}')
