"""The wheel holds what it must, and an install without extras says what to add."""

from __future__ import annotations

import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
STAGES = ("ingest", "build-dataset", "dedup", "sft", "dpo", "quantize", "eval", "serve")
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
NEEDS_NOTHING = ("dedup", "build-dataset")  # their smoke recipes run with the base install
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
# what the five base dependencies import: names of files and folders in site-packages
BASE = (
    *("typer", "click", "shellingham", "rich", "markdown_it", "mdurl", "pygments"),
    *("pydantic", "pydantic_core", "annotated_types", "annotated_doc"),
    *("typing_extensions.py", "typing_inspection", "yaml", "_yaml", "numpy", "numpy.libs"),
)


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built by the build backend itself: no network."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    build = f"import hatchling.build as b; b.build_wheel({str(folder)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_has_recipes_schemas_and_types(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for stage in STAGES:
        assert f"llmctl/recipes/{stage}/smoke.yaml" in names
        assert f"llmctl/schema/json/{stage}.json" in names
    assert "llmctl/py.typed" in names
    samples = ROOT / "recipes" / "samples"
    for path in samples.rglob("*"):
        if path.is_file():
            assert f"llmctl/recipes/{path.relative_to(ROOT / 'recipes').as_posix()}" in names
    assert not [n for n in names if n.startswith(("tests/", "docs/", "scripts/", "build/"))]


def test_the_wheel_is_small(wheel: Path) -> None:
    assert wheel.stat().st_size < 3e6


def test_the_sdist_builds_and_holds_the_sources(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = f"import hatchling.build as b; b.build_sdist({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", build], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as sdist:
        names = sdist.getnames()
    inside = {name.partition("/")[2] for name in names}
    assert {"pyproject.toml", "README.md", "LICENSE", "llmctl/cli.py", "docs/index.md"} <= inside
    assert not [n for n in inside if n.startswith((".venv", "build/", ".git/"))]


def test_version_is_the_packages(wheel: Path) -> None:
    import llmctl

    assert f"-{llmctl.__version__}-" in wheel.name


@pytest.fixture(scope="session")
def bare(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtual environment with the wheel and the base dependencies only.

    The dependencies are linked from this environment, so nothing is fetched.
    """
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    site = folder / "lib" / version / "site-packages"
    ours = Path(sysconfig.get_path("purelib"))
    for name in BASE:
        if (ours / name).exists():
            (site / name).symlink_to(ours / name)
    for info in ours.glob("*.dist-info"):
        stem = info.name.split("-")[0].lower()
        if stem in {n.lower().removesuffix(".py") for n in BASE} | {"pyyaml", "markdown_it_py"}:
            (site / info.name).symlink_to(info)
    with zipfile.ZipFile(wheel) as file:
        file.extractall(site)
    return folder / "bin" / "python"


def run(python: Path, *args: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [str(python), "-I", "-m", "llmctl", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120)


def recipes_of(python: Path) -> Path:
    code = "import llmctl.bundled as b; print(b.folder())"
    done = subprocess.run([python, "-I", "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def test_help_and_doctor_work_without_extras(bare: Path, tmp_path: Path) -> None:
    done = run(bare, "--help", cwd=tmp_path)
    assert done.returncode == 0
    assert all(stage in done.stdout for stage in STAGES)
    done = run(bare, "doctor", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "llmctl-toolkit[train]" in done.stdout


def test_all_recipes_validate_without_extras(bare: Path, tmp_path: Path) -> None:
    files = sorted(recipes_of(bare).glob("*/*.yaml"))
    assert len(files) >= 2 * len(STAGES)
    done = run(bare, "validate", *files, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("stage", STAGES)
def test_a_missing_extra_is_one_line_and_exit_code_3(
    stage: str, bare: Path, tmp_path: Path
) -> None:
    recipe = recipes_of(bare) / stage / "smoke.yaml"
    done = run(bare, stage, recipe, cwd=tmp_path)
    if stage in NEEDS_NOTHING:
        assert done.returncode == 0, done.stderr
        return
    assert done.returncode == 3, done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    hint = re.search(r"pip install '?(llmctl-toolkit\[([a-z,]+)\]|[\w-]+)'?$", lines[0])
    assert hint is not None, lines[0]
    for extra in filter(None, (hint[2] or "").split(",")):
        assert extra in EXTRAS
    assert not (tmp_path / "build" / "smoke" / stage / "manifest.json").exists()


@pytest.mark.parametrize("stage", ["sft", "dpo", "eval", "quantize", "serve", "ingest"])
def test_plans_need_no_extra_and_say_what_to_install(
    stage: str, bare: Path, tmp_path: Path
) -> None:
    done = run(bare, "plan", recipes_of(bare) / stage / "smoke.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    extras = set().union(*(e.split(",") for e in re.findall(r"install '.*\[(.*)\]'", done.stdout)))
    assert extras and extras <= set(EXTRAS)
    if "pkg:" in done.stdout:
        name = re.search(r"pkg:([\w-]+)", done.stdout)
        assert name and f"first install: pip install {name[1]}\n" in done.stdout


def test_an_engine_inside_a_light_stage_names_its_extra(bare: Path, tmp_path: Path) -> None:
    recipe = recipes_of(bare) / "build-dataset" / "demo.yaml"
    (tmp_path / "in").mkdir()
    done = run(bare, "build-dataset", recipe, "--set", "source=in", cwd=tmp_path)
    assert done.returncode == 3
    [line] = done.stderr.strip().splitlines()
    assert line.endswith("pip install 'llmctl-toolkit[serve]'") and "xllamacpp" in line


def test_every_needed_distribution_is_in_the_extra_that_is_named(tmp_path: Path) -> None:
    """`needs` in the code and the extras in pyproject.toml agree."""
    from llmctl import bundled
    from llmctl.schema.base import load

    def names(extra: str) -> set[str]:
        lines = [*(EXTRAS[extra] if extra else ()), *PROJECT["dependencies"]]
        return {re.split(r"[<>=\[ ;]", each)[0].lower().replace("_", "-") for each in lines}

    for name in bundled.names():
        for distribution, extra in load(None, bundled.path_of(name)).recipe.all_needs().items():
            assert distribution.lower().replace("_", "-") in names(extra), f"{name}: {distribution}"


def test_base_is_light() -> None:
    assert len(PROJECT["dependencies"]) <= 6
    heavy = ("torch", "transformers", "chromadb", "fastapi")
    assert not [d for d in PROJECT["dependencies"] if d.startswith(heavy)]
