"""A report as one self-contained HTML file: no scripts, no network, everything escaped."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from llmctl.report import plots

STYLE = """
:root{--ink:#1d2330;--soft:#5b6475;--line:#dfe3ea;--paper:#fff;--card:#f6f7f9;
--a:#2f6fde;--b:#e07a2f;--c:#2e9e6b;--d:#a24fc4;--e:#c43d5a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ef;--soft:#9aa4b5;--line:#333b49;
--paper:#12161d;--card:#1a2029;--a:#6ea0ff;--b:#f0a060;--c:#5fc99a;--d:#c98be0;--e:#ef7d95}}
body{font:15px/1.55 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:980px;margin:2.5rem auto;padding:0 1.2rem;overflow-wrap:break-word}
h1{font-size:1.7rem;margin:0 0 1rem}h2{font-size:1.2rem;margin:2.2rem 0 .6rem}
table{border-collapse:collapse;margin:.6rem 0;font-variant-numeric:tabular-nums}
th,td{padding:.3rem .8rem .3rem 0;border-bottom:1px solid var(--line);text-align:left;
vertical-align:top}.n{white-space:nowrap}th{color:var(--soft);font-weight:600}.wide{overflow-x:auto}
dl{display:grid;grid-template-columns:fit-content(45%) 1fr;gap:.2rem 1.2rem;margin:.6rem 0}
dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
pre{background:var(--card);padding:.7rem;border-radius:6px;white-space:pre-wrap;
overflow-wrap:anywhere;margin:.3rem 0 1rem}
code{background:var(--card);padding:.1em .3em;border-radius:3px}
.tokens{line-height:2}.trained{background:color-mix(in srgb,var(--c) 30%,transparent)}
.special{background:color-mix(in srgb,var(--b) 30%,transparent)}
details{margin:.4rem 0}summary{cursor:pointer}
.context{color:var(--soft)}.tokens span{border-radius:3px;padding:.1em 0}
.row{display:grid;grid-template-columns:1fr 1fr;gap:0 1.2rem;color:var(--soft)}
.row>:first-child,.row>:last-child:nth-child(2){grid-column:1/-1}.row>div{min-width:0}
@media(max-width:640px){.row{display:block}}
.tokens{color:var(--ink);white-space:pre-wrap;overflow-wrap:anywhere;margin:.1rem 0 1rem}
"""

Pieces = Sequence[tuple[str, str]]
"""(text, class) of each token."""


class Report:
    """Collects sections and writes one file."""

    def __init__(self, title: str) -> None:
        self.title = title
        self._parts: list[str] = []

    def heading(self, text: str) -> None:
        """Start a section."""
        self._parts.append(f"<h2>{escape(text)}</h2>")

    def text(self, text: str) -> None:
        """A paragraph; what stands between backticks in it is shown as code."""
        said = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
        self._parts.append(f"<p>{said}</p>")

    def facts(self, facts: Sequence[tuple[str, object]]) -> None:
        """Labels with values."""
        rows = "".join(f"<dt>{escape(k)}</dt><dd>{escape(str(v))}</dd>" for k, v in facts)
        self._parts.append(f"<dl>{rows}</dl>")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """A table; numbers are shortened."""
        head = "".join(f"<th>{escape(column)}</th>" for column in columns)
        body = "".join("<tr>" + "".join(map(_cell, row)) + "</tr>" for row in rows)
        self._parts.append(f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>')

    def lines(
        self,
        title: str,
        series: Mapping[str, Sequence[tuple[float, float]]],
        x_label: str = "",
        y_label: str = "",
    ) -> None:
        """A line plot."""
        self._parts.append(plots.lines(title, series, x_label, y_label))

    def bars(
        self, title: str, items: Sequence[tuple[str, float, float | None]], y_label: str = ""
    ) -> None:
        """A bar plot; each item is (label, value, error or None)."""
        self._parts.append(plots.bars(title, items, y_label))

    def ranked(self, title: str, items: Sequence[tuple[str, float]], x_label: str = "") -> None:
        """Horizontal bars, each item (label, value), in the given order."""
        self._parts.append(plots.ranked(title, items, x_label))

    def histogram(
        self, title: str, series: Mapping[str, Sequence[float]], x_label: str = ""
    ) -> None:
        """A histogram."""
        self._parts.append(plots.histogram(title, series, x_label))

    def tokens(self, title: str, tokens: Pieces) -> None:
        """A text token by token, each with the class `trained`, `context` or `special`."""
        self.heading(title)
        self._parts.append(f'<p class="tokens">{_spans(tokens)}</p>')

    def token_rows(self, title: str, rows: Sequence[tuple[str, Mapping[str, Pieces]]]) -> None:
        """As `tokens`, of several rows.

        A row is a line and texts by name; of three texts the last two stand side by side.
        """
        self.heading(title)
        for head, texts in rows:
            shown = "".join(
                f'<div>{escape(name)}<p class="tokens">{_spans(pieces)}</p></div>'
                for name, pieces in texts.items()
            )
            self._parts.append(f'<p>{escape(head)}</p><div class="row">{shown}</div>')

    def examples(self, title: str, items: Sequence[tuple[str, str]]) -> None:
        """Texts with a line above each."""
        rows = "".join(f"<p>{escape(head)}</p><pre>{escape(body)}</pre>" for head, body in items)
        self._parts.append(f"<h2>{escape(title)}</h2>{rows}")

    def details(self, title: str, items: Sequence[tuple[str, str]]) -> None:
        """Texts with a line above each, folded under a line that opens them."""
        rows = "".join(f"<p>{escape(head)}</p><pre>{escape(body)}</pre>" for head, body in items)
        self._parts.append(f"<details><summary>{escape(title)}</summary>{rows}</details>")

    def html(self) -> str:
        """The whole document."""
        return (
            '<!doctype html><html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width,initial-scale=1">'
            '<meta http-equiv="Content-Security-Policy" '
            "content=\"default-src 'none'; style-src 'unsafe-inline'\">"
            f"<title>{escape(self.title)}</title><style>{STYLE}{plots.STYLE}</style></head>"
            f"<body><h1>{escape(self.title)}</h1>{''.join(self._parts)}</body></html>\n"
        )

    def write(self, path: Path) -> None:
        """Write the document as UTF-8; half a surrogate pair is shown as its escape."""
        path.write_text(self.html(), encoding="utf-8", errors="backslashreplace")


def _spans(pieces: Pieces) -> str:
    return "".join(
        f'<span class="{escape(kind)}" title="{escape(kind)}">'
        f"{escape(text).replace(chr(10), '⏎<br>')}</span>"
        for text, kind in pieces
    )


def _cell(value: object) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return f"<td>{'' if value is None else escape(str(value))}</td>"
    number = f"{value:,}" if isinstance(value, int) else plots.number(value)
    return f'<td class="n">{number}</td>'
