"""README and manual are true: every command in a ```bash block runs, every link leads somewhere."""

from __future__ import annotations

import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

NOT_RUN = {
    "make demo": "minutes, builds a virtual environment; .ci/run runs it",
    "make test": "this is what runs the test",
    "pip install": "installs from a package index",
    "git clone": "needs a network",
}
"""Lines that are not run here, each with its reason; everything else is."""
ARTIFACT = re.compile(r"build/(?:smoke|demo)/([a-z-]+)")
STAGE_OF = {"dataset": "build-dataset", "pairs": "build-dataset"}
CHAIN = ("ingest", "build-dataset", "dedup", "sft", "dpo", "quantize", "eval")


@dataclass(frozen=True)
class Block:
    """The commands of one ```bash block."""

    page: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(r"^```(?:bash|sh|shell|console)\n(.*?)^```", text, re.M | re.S):
        yield Block(page, text[: match.start()].count("\n") + 1, match[1])


BLOCKS = [block for page in PAGES for block in blocks(page)]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a checkout has, without its build folder, and `llmctl` on the path."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("docs", "recipes", "scripts", ".github"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copy(ROOT / "README.md", folder)
    command = folder / ".bin" / "llmctl"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m llmctl "$@"\n')
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    (folder / ".bin" / "python").symlink_to(sys.executable)
    return folder


def bash(script: str, project: Path, timeout: float = 600) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "PATH": f"{project / '.bin'}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
    }
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def make_what_it_needs(block: Block, project: Path) -> None:
    """Run the smoke recipe of each artifact that a block names and does not make."""
    for name in dict.fromkeys(ARTIFACT.findall(block.text)):
        stage = STAGE_OF.get(name, name)
        made_here = f"llmctl {stage} recipes/" in block.text
        if stage not in CHAIN or made_here or list((project / "build").glob(f"*/{name}")):
            continue
        done = bash(f"llmctl {stage} recipes/{stage}/smoke.yaml -q", project)
        assert done.returncode == 0, done.stderr


@pytest.mark.model
@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_the_commands_of_a_page_run(block: Block, project: Path) -> None:
    lines = block.text.splitlines()
    script = "\n".join(line for line in lines if not line.startswith(tuple(NOT_RUN)))
    make_what_it_needs(block, project)
    done = bash(script, project)
    assert done.returncode == 0, f"{block}\n{script}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def test_the_list_of_lines_that_are_not_run_is_used() -> None:
    """A reason that no page needs any more is removed."""
    told = "\n".join(block.text for block in BLOCKS)
    assert "make demo" in told
    assert len(NOT_RUN) <= 4


def heading_id(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    text = re.sub(r"[^\w\- ]", "", heading.strip().lower())
    return text.replace(" ", "-")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+://|mailto:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path) if path else page
        assert file.exists(), f"{page.name}: {target}"
        if anchor and file.suffix == ".md":
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert anchor in map(heading_id, headings), f"{page.name}: {target}"


def test_recipes_that_pages_name_exist() -> None:
    for page in PAGES:
        for name in re.findall(r"\brecipes/[a-z-]+/[\w-]+\.yaml", page.read_text(encoding="utf-8")):
            assert (ROOT / name).is_file(), f"{page.name}: {name}"


def test_every_stage_has_a_page() -> None:
    names = {page.stem for page in PAGES}
    for stage in (*CHAIN, "serve"):
        assert stage in names
