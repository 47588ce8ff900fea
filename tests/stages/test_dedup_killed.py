"""A `dedup` process that is killed at any moment: the next run ends as one that was left alone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Run

RESULTS = ("kept.jsonl", "dropped.jsonl")
METHODS = """
methods:
  - exact
  - {kind: minhash, threshold: 0.6}
  - {kind: semantic, embedder: hashing, threshold: 0.98}
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three thousand rows, of which every third is nearly one before it."""
    folder = tmp_path_factory.mktemp("killed")
    with (folder / "rows.jsonl").open("w") as file:
        for n in range(3000):
            text = " ".join(f"word{(n - n % 3) * 31 + k}" for k in range(40)) + f" end {n % 3}"
            file.write(json.dumps({"id": str(n), "text": text}) + "\n")
    path = folder / "recipe.yaml"
    path.write_text(f"stage: dedup\ndata: {folder / 'rows.jsonl'}\nout: whole\n{METHODS}")
    return path


def test_a_killed_run_is_gone_on_with(llmctl: Run, recipe: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole"
    assert llmctl("dedup", recipe, "--out", whole).returncode == 0  # may have to compile first
    begun = time.monotonic()
    assert llmctl("dedup", recipe, "--out", tmp_path / "again").returncode == 0
    usual = time.monotonic() - begun
    assert (whole / "dropped.jsonl").read_bytes()
    killed = 0
    for part in (0.4, 0.6, 0.75, 0.9):
        out = tmp_path / f"killed-{part}"
        command = [sys.executable, "-m", "llmctl", "dedup", str(recipe), "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as run:
            time.sleep(part * usual)
            run.kill()
        killed += not out.exists()
        assert llmctl("dedup", recipe, "--out", out).returncode == 0
        for name in RESULTS:
            assert (out / name).read_bytes() == (whole / name).read_bytes(), (part, name)
        assert not [each for each in tmp_path.iterdir() if each.suffix == ".partial"]
    assert killed, "no run was under way when it was killed"
