"""The recipes that ship with llmctl, and new projects made from them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmctl import ui
from llmctl.errors import RecipeError
from llmctl.words import nearest

STARTERS = ("ingest", "build-dataset", "dedup", "sft", "dpo", "quantize", "eval", "serve")


def folder() -> Path:
    """The bundled recipes: inside the installed package, or beside it in a checkout."""
    inside = Path(__file__).parent / "recipes"
    return inside if inside.is_dir() else Path(__file__).parent.parent / "recipes"


def names() -> list[str]:
    """`stage/name` of every bundled recipe."""
    found = folder().glob("*/*.yaml")
    return sorted(p.relative_to(folder()).with_suffix("").as_posix() for p in found)


def path_of(name: str) -> Path:
    """The file of a bundled recipe; an unknown name is an error with the nearest."""
    name = name.removesuffix(".yaml").removeprefix("recipes/")
    if name not in names():
        near = nearest(name, names())
        hint = f", did you mean '{near}'?" if near else "; see `llmctl recipes list`"
        raise RecipeError(f"no bundled recipe named '{name}'{hint}")
    return folder() / f"{name}.yaml"


def about(name: str) -> str:
    """What a recipe does: the first sentence of its opening comment."""
    for line in path_of(name).read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and "yaml-language-server" not in line:
            return line.lstrip("# ").strip()
    return ""


def show_list(as_json: bool) -> None:
    """Print the bundled recipes on stdout."""
    if as_json:
        rows = [{"name": n, "about": about(n), "path": str(path_of(n))} for n in names()]
        ui.result(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    ui.result_table("", ["recipe", "what it does"], [[n, about(n)] for n in names()])


def copy(name: str, target: Path, *, force: bool = False) -> Path:
    """Copy a recipe to a file or into a folder; sample paths in it still point at the package."""
    source = path_of(name)
    if target.is_dir() or target.suffix not in (".yaml", ".yml"):
        target = target / f"{name.replace('/', '-')}.yaml"
    if target.exists() and not force:
        raise RecipeError(f"{target}: is there already; use --force to replace it")
    text = source.read_text(encoding="utf-8")
    text = text.replace("${recipe_dir}/../samples", str((folder() / "samples").resolve()))
    with _writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_without_schema_path(text), encoding="utf-8")
    return target


@contextmanager
def _writing(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise RecipeError(f"{target} cannot be written: {error.strerror}") from None


def _without_schema_path(text: str) -> str:
    schemas = (Path(__file__).parent / "schema" / "json").resolve()
    return text.replace("$schema=../../llmctl/schema/json", f"$schema={schemas}")


def _for_project(source: str, name: str) -> str:
    """A demo recipe with the project's paths, and without what only the demo has."""
    stage = source.partition("/")[0]
    lines = path_of(source).read_text(encoding="utf-8").splitlines()
    body = [
        line for line in lines if not line.startswith(("#", "readers:")) and "/samples/" not in line
    ]
    head = [
        f"# yaml-language-server: $schema=schema/{stage}.json",
        f"#   llmctl {stage} recipes/{name}.yaml",
    ]
    if "gate:" in body:  # a few sample documents teach nothing
        at = body.index("gate:")
        hint = "# With documents of your own, let the run fail when tuning did not help:"
        body = [*body[:at], hint, *(f"# {line}" for line in body[at:])]
    return "\n".join([*head, *body]).replace("build/demo/", "build/") + "\n"


MAKEFILE = """\
# The chain: `make` brings everything up to date; a stage that is up to date takes no time.
STAGES := ingest dataset pairs dedup sft dpo quantize eval

all: $(STAGES)

ingest: ; llmctl ingest recipes/ingest.yaml
dataset: ingest ; llmctl build-dataset recipes/dataset.yaml
pairs: ingest ; llmctl build-dataset recipes/pairs.yaml
dedup: dataset ; llmctl dedup recipes/dedup.yaml
sft: dedup ; llmctl sft recipes/sft.yaml
dpo: sft pairs ; llmctl dpo recipes/dpo.yaml
quantize: dpo ; llmctl quantize recipes/quantize.yaml
eval: dpo ; llmctl eval recipes/eval.yaml
serve: quantize ; llmctl serve recipes/serve.yaml

.PHONY: all serve $(STAGES)
"""

WORKFLOW = """\
name: llmctl
on: [push, pull_request]
jobs:
  validate:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with: {python-version: "3.11"}
      - run: pip install llmctl-toolkit
      - run: llmctl validate recipes/*.yaml
"""

PROJECT = {
    "ingest": "ingest/demo",
    "dataset": "build-dataset/demo",
    "pairs": "build-dataset/demo-pairs",
    "dedup": "dedup/demo",
    "sft": "sft/demo",
    "dpo": "dpo/demo",
    "quantize": "quantize/demo",
    "eval": "eval/demo",
    "serve": "serve/demo",
}
"""File in the new project -> bundled recipe."""


def init(target: Path, *, force: bool = False) -> Path:
    """Write a project that runs the whole chain on `docs/`; returns its folder."""
    files = {"Makefile": MAKEFILE, ".github/workflows/llmctl.yml": WORKFLOW}
    files[".gitignore"] = "build/\n.*.lock\n"
    schemas = Path(__file__).parent / "schema" / "json"
    for name, source in PROJECT.items():
        stage = source.partition("/")[0]
        files[f"recipes/{name}.yaml"] = _for_project(source, name)
        files[f"recipes/schema/{stage}.json"] = (schemas / f"{stage}.json").read_text("utf-8")
    present = [name for name in files if (target / name).exists()]
    if present and not force:
        raise RecipeError(f"{target}: has {', '.join(present)} already; use --force to replace")
    with _writing(target):
        for name, text in files.items():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_text(text, encoding="utf-8")
        if not (target / "docs").exists():
            shutil.copytree(folder() / "samples" / "docs", target / "docs")
    ui.note(f"{target}: put your documents into docs/, then run: make")
    return target
