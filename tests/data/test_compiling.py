"""The first use after an installation compiles for half a minute: it says so."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("numba")
TWO = """
import numba
from llmctl.data import compiling
compiling.announce()
numba.njit(lambda x: x + 1)(1)
numba.njit(lambda x: x + 2)(1)
"""


def test_compiling_is_told_once() -> None:
    done = subprocess.run([sys.executable, "-c", TWO], capture_output=True, text=True, check=True)
    assert done.stderr.count("compiling the kernels") == 1 and done.stdout == ""
