"""A report shows any text as text, needs nothing but itself, and draws finite numbers only."""

from __future__ import annotations

import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl.report import plots
from llmctl.report.html import Report

HOSTILE = [
    "<script>alert(1)</script>",
    "</pre></style></svg><img src=x onerror=alert(1)>",
    "\"><a href='https://example.org'>x</a>",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "javascript:alert(1)",
    "a\0b\x1b[31m\u202egnp.\u2028",
    "half a pair \ud800",
]
NUMBERS = st.floats(allow_nan=True, allow_infinity=True)
ALLOWED = re.compile(
    "html|head|meta|title|style|body|h1|h2|p|code|dl|dt|dd|table|tr|th|td|div|span|i|br|pre|"
    "details|summary|figure|figcaption|svg|line|text|polyline|circle|rect|path"
)


class Page(HTMLParser):
    """Collects the elements, their attributes and the visible text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.shown = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.shown += data


def full(text: str) -> Report:
    """A report with `text` in every place that takes one."""
    report = Report(text)
    report.heading(text)
    report.text(text)
    report.facts([(text, text), ("number", 3)])
    report.table([text], [[text], [None], [True], [1234567.0], [math.nan]])
    report.lines(text, {text: [(0, 1), (1, 2)], "other": [(0, 2)]}, text, text)
    report.bars(text, [(text, 0.5, 0.1), ("other", 1.0, None)], text)
    report.histogram(text, {text: [1, 2, 2], "other": [5]}, text)
    report.ranked(text, [(text, 2), ("other", 1.5), ("bad", math.inf)], text)
    report.details(text, [(text, text)])
    report.tokens(text, [(text, "trained"), ("\n", text)])
    report.token_rows(text, [(text, {text: [(text, "trained")], "": [("\n", text)]})])
    report.examples(text, [(text, text)])
    return report


def harmless(html: str) -> Page:
    """Only known elements, no script, nothing fetched, nothing that reacts."""
    page = Page(html)
    for tag, attributes in page.elements:
        assert ALLOWED.fullmatch(tag), tag
        for name in attributes:
            assert not name.startswith("on") and name not in ("href", "src", "xlink:href"), name
    assert "<script" not in html.lower()
    assert "default-src 'none'" in html
    return page


def finite(html: str) -> None:
    """Every number of every drawing is one."""
    for tag, attributes in Page(html).elements:
        for name, value in attributes.items():
            if tag in ("line", "text", "polyline", "circle", "rect", "path") and name not in (
                "class",
                "fill",
                "stroke",
                "text-anchor",
            ):
                assert not re.search("nan|inf|e[+-]?[0-9]{2}", value), (tag, name, value)
                assert all(math.isfinite(float(n)) for n in re.findall(r"-?\d+\.?\d*", value))
            if name in ("width", "height") and tag == "rect":
                assert float(value.rstrip("%")) > -1


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_shown_as_text(text: str, tmp_path: Path) -> None:
    plain = harmless(full("plain").html())
    report = full(text)
    page = harmless(report.html())
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.shown.count(text) >= 9
    report.write(tmp_path / "report.html")
    harmless((tmp_path / "report.html").read_text(encoding="utf-8"))


@given(st.text())
def test_any_text_is_shown_as_text(text: str) -> None:
    harmless(full(text).html())


def test_backticks_in_a_paragraph_are_code() -> None:
    report = Report("t")
    report.text("`seed` and `<b>` are keys, a lone ` is none")
    assert "<p><code>seed</code> and <code>&lt;b&gt;</code> are keys, a lone ` is" in report.html()


def test_a_table_shows_all_digits_of_a_count() -> None:
    report = Report("t")
    report.table(["bytes"], [[144811072]])
    assert '<td class="n">144,811,072</td>' in report.html()


def test_a_report_is_self_contained() -> None:
    html = full("plain").html()
    assert not re.search(r"https?://|@import|url\(", html)
    assert html.startswith("<!doctype html>") and 'charset="utf-8"' in html
    finite(html)


@given(points=st.lists(st.tuples(NUMBERS, NUMBERS), max_size=50))
def test_lines_draw_finite_numbers(points: list[tuple[float, float]]) -> None:
    html = plots.lines("t", {"a": points, "none": []})
    finite(html)
    drawable = [p for p in points if plots.drawable(p[0]) and plots.drawable(p[1])]
    assert ("nothing was measured" in html) == (not drawable)
    if len(points) <= 40:
        assert html.count("<circle") == len(drawable)


@given(st.lists(st.tuples(st.text(max_size=20), NUMBERS, st.none() | NUMBERS), max_size=20))
def test_bars_draw_finite_numbers(items: list[tuple[str, float, float | None]]) -> None:
    html = plots.bars("t", items)
    finite(html)
    assert html.count("<rect") == sum(plots.drawable(value) for _, value, _ in items)


@given(st.dictionaries(st.text(max_size=3), st.lists(NUMBERS, max_size=50), max_size=4))
def test_histograms_count_every_number(series: dict[str, list[float]]) -> None:
    html = plots.histogram("t", series)
    finite(html)
    counted = sum(int(n) for n in re.findall(r"<title>(\d+)</title>", html))
    assert counted == sum(plots.drawable(v) for values in series.values() for v in values)


@given(st.floats(-1e300, 1e300), st.floats(-1e300, 1e300))
def test_ticks_are_few_and_span_the_values(a: float, b: float) -> None:
    low, high = sorted((a, b))
    found = plots.ticks(low, high)
    assert 2 <= len(found) <= 12 and found == sorted(set(found))
    slack = (found[-1] - found[0]) * 1e-6
    assert found[0] <= low + slack and high <= found[-1] + slack


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=40))
def test_axes_of_counts_have_whole_numbers(values: list[int]) -> None:
    """Half a row is nothing that an axis can name."""
    for html in (
        plots.histogram("t", {"a": [float(value) for value in values]}),
        plots.bars("t", [("a", value, None) for value in values]),
        plots.lines("t", {"a": list(enumerate(values))}),
    ):
        assert not [tick for tick in shown_ticks(html) if "." in tick and "e+" not in tick]


@pytest.mark.parametrize("shares", [[0.0, 1.0, 1.0], [1.0, 1.0], [0.0, 0.0]])
def test_axes_of_shares_have_fractions_also_when_all_or_nothing_was_right(
    shares: list[float],
) -> None:
    for html in (
        plots.bars("t", [("a", value, None) for value in shares]),
        plots.lines("t", {"a": list(enumerate(shares))}),
    ):
        assert [tick for tick in shown_ticks(html) if re.fullmatch(r"0\.\d+", tick)]


def shown_ticks(html: str) -> list[str]:
    """The numbers at the axes."""
    return re.findall(r"<text[^>]*>([^<]+)</text>", html)


def test_each_of_few_whole_numbers_has_a_bar_of_its_own() -> None:
    html = plots.histogram("t", {"a": [1, 2, 2, 5]})
    assert re.findall(r"<title>(\d+)</title>", html) == ["1", "2", "1"]
    assert re.findall(r'x="([\d.]+)%"[^>]*>(\d)</text>', html)[0] == ("10.00", "1")


def test_text_keeps_its_size_on_a_narrow_page() -> None:
    """A drawing that is scaled as a whole has letters of six pixels on a telephone."""
    for tag, attributes in Page(full("plain").html()).elements:
        if "viewbox" in attributes:
            assert attributes["preserveaspectratio"] == "none", tag
        if tag == "text" and "x" in attributes:
            assert attributes["x"].endswith("%") or attributes["x"] == "-6"
    scaled = re.findall(r"<svg viewBox.*?</svg>", full("plain").html())
    assert scaled and not [each for each in scaled if "<text" in each]


def test_zero_among_the_ticks_is_zero() -> None:
    assert 0.0 in plots.ticks(-0.0278, 0.0113) and 0.0 in plots.ticks(-0.059, 0.0)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(1234567.0, "1.235e+06"), (12000, "12,000"), (0.25, "0.25"), (math.nan, "unknown"),
     (math.inf, "∞"), (-math.inf, "-∞")],
)  # fmt: skip
def test_numbers_are_short(value: float, shown: str) -> None:
    assert plots.number(value) == shown
