"""What start-up may import; time is only reported (bench/startup.py)."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

FORBIDDEN = ["torch", "transformers", "pydantic", "yaml", "rich", "importlib.metadata", "numpy"]
CODE = """
import json, sys
import llmctl.cli
sys.argv = ["llmctl", *{arguments}]
try:
    llmctl.cli.main()
except SystemExit:
    pass
print()
print(json.dumps(sorted(sys.modules)))
"""


def modules(*arguments: str) -> set[str]:
    result = subprocess.run(
        [sys.executable, "-c", CODE.format(arguments=list(arguments))],
        capture_output=True,
        text=True,
        check=True,
    )
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("arguments", [["--help"], ["sft", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    found = modules(*arguments)
    assert not found.intersection(FORBIDDEN)


def test_validating_imports_no_model_library() -> None:
    found = modules("validate", "recipes/sft/smoke.yaml", "recipes/serve/smoke.yaml")
    assert "pydantic" in found
    assert not found.intersection({"torch", "transformers", "trl", "chromadb", "fastapi"})


@pytest.mark.parametrize("stage", ["sft", "dpo"])
def test_rows_that_cannot_be_used_are_refused_before_anything_heavy(
    stage: str, tmp_path: Path
) -> None:
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    sets = ["--set", f"data.train={empty}", "--out", str(tmp_path / "out"), "-q"]
    arguments = [stage, f"recipes/{stage}/smoke.yaml", *sets]
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(arguments=arguments)], capture_output=True, text=True
    )
    found = set(json.loads(done.stdout.splitlines()[-1]))
    assert not found.intersection({"torch", "transformers", "trl", "peft", "datasets", "pyarrow"})
    if find_spec("trl") and find_spec("peft"):  # else it says first what has to be installed
        assert done.stderr == f"{empty}: has no rows\n"


def test_every_schema_and_cli_module_imports_without_extras() -> None:
    """A machine with the base install alone can validate and plan everything."""
    code = """
import sys, importlib
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "trl", "peft", "chromadb", "fastapi",
                "sentence_transformers", "llama_cpp", "xllamacpp", "lm_eval", "datasets", "gguf",
                "bs4", "pypdf", "openpyxl", "sqlalchemy", "httpx", "uvicorn", "pyarrow", "numba",
                "scipy", "openai", "redis", "pika", "confluent_kafka"}:
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
from llmctl.schema.base import STAGES, schema_of
from llmctl.schema.export import text_of
for stage in STAGES:
    text_of(stage)
    importlib.import_module("llmctl.stages." + stage.replace("-", "_"))
import llmctl.doctor, llmctl.planning, llmctl.lineage, llmctl.bundled, llmctl.search
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
