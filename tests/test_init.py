"""`llmctl init`: a project that stands on its own and whose first stages run as they are."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Run


@pytest.fixture
def project(llmctl: Run, tmp_path: Path) -> Path:
    done = llmctl("init", tmp_path / "mine")
    assert (done.returncode, done.stdout) == (0, f"{tmp_path / 'mine'}\n")
    return tmp_path / "mine"


def test_every_recipe_is_valid_and_names_nothing_outside(llmctl: Run, project: Path) -> None:
    recipes = sorted((project / "recipes").glob("*.yaml"))
    assert len(recipes) == 9
    done = llmctl("validate", *recipes)
    assert done.returncode == 0, done.stderr
    for path in recipes:
        text = path.read_text()
        assert str(ROOT) not in text and "demo" not in text and "recipe_dir" not in text
        schema = re.search(r"\$schema=(\S+)", text)
        assert schema is not None and (path.parent / schema[1]).is_file()


def test_a_project_is_not_overwritten(llmctl: Run, project: Path) -> None:
    (project / "recipes" / "sft.yaml").write_text("mine")
    refused = llmctl("init", project)
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert (project / "recipes" / "sft.yaml").read_text() == "mine"
    assert llmctl("init", project, "--force").returncode == 0


@pytest.mark.model
def test_make_runs_on_the_sample_documents(project: Path) -> None:
    pytest.importorskip("chromadb")
    command = project / "bin" / "llmctl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmctl "$@"\n')
    command.chmod(0o755)
    env = {**os.environ, "PATH": f"{command.parent}:{os.environ['PATH']}"}
    done = subprocess.run(["make", "pairs"], cwd=project, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (project / "build" / "pairs" / "train.jsonl").read_text().count("\n") >= 2
    plan = subprocess.run(["make", "-n"], cwd=project, env=env, capture_output=True, text=True)
    assert plan.stdout.count("llmctl ") == 8
