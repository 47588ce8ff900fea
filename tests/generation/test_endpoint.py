"""A real endpoint process that fails on purpose, and runs that are killed: nothing is lost."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("httpx")
sys.path[:0] = [str(ROOT / "bench"), str(ROOT / "tests" / "generation")]

import build_dataset as bench
from endpoint import FAULTS


def test_faults_and_kills_lose_nothing_and_change_nothing(tmp_path: Path) -> None:
    """The bench's proof with 120 rows, three kills and every fifth call wrong."""
    found = bench.faults(tmp_path, 120, kills=3, share=0.2)
    assert found["rows"] == 120 and found["twice"] == 0
    assert found["equal"], "the same bytes as without faults"
    assert set(found["faults"]) == set(FAULTS)
    assert found["again"] <= found["kills"] * bench.CONCURRENCY
    assert found["seconds_before_the_kill"] < 2, "only calls that were under way at a kill"
