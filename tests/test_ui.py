"""What is printed: tables that fit the terminal, and are whole in a file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmctl import ui

WORDS = st.text("abcdefg/.-", min_size=1, max_size=30)
CELLS = st.lists(WORDS, max_size=12).map(" ".join)


@given(st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=6), st.integers(30, 100))
def test_a_table_fits_the_terminal_and_loses_nothing(
    rows: list[tuple[str, str, str]], width: int
) -> None:
    lines = list(ui.table_lines("", ["key", "value", "origin"], rows, width))
    assert all(len(line) <= width for line in lines)
    shown = sorted("".join(lines).replace(" ", "").replace("-", ""))
    given = "keyvalueorigin" + "".join(cell for row in rows for cell in row)
    assert shown == sorted(given.replace(" ", "").replace("-", ""))


def test_rows_that_are_gone_through_show_how_many_are_left(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ui, "PLAIN_EVERY", 0.0)
    monkeypatch.setattr(ui, "STEP", 2)
    assert list(ui.counted("reading rows", iter(range(5)), 5)) == list(range(5))
    assert "reading rows: 4/5" in capsys.readouterr().err


def test_a_table_in_a_file_has_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    ui.result_table("", ["name", "text"], [["a", "word " * 100]])
    assert len(capsys.readouterr().out.splitlines()) == 3
