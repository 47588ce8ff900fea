"""The demo's driver: it fails when tuning did nothing, and shows what came out."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parent.parent / "scripts" / "demo.py"


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The driver as a module, working in an empty folder."""
    spec = importlib.util.spec_from_file_location("demo", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "demo", module)
    spec.loader.exec_module(module)
    monkeypatch.chdir(tmp_path)
    return module


def measured(name: str, before: float, after: float, error: float) -> dict[str, Any]:
    return {
        f"{name}_before": before,
        f"{name}_before_se": error,
        f"{name}_after": after,
        f"{name}_after_se": error,
        f"{name}_diff": after - before,
        f"{name}_diff_se": error,
        "eval_rows": 30,
    }


def artifacts(folder: Path, loss: dict[str, Any], preference: dict[str, Any]) -> None:
    for name, metrics in (("sft", loss), ("dpo", preference)):
        (folder / "build/demo" / name).mkdir(parents=True)
        text = json.dumps({"metrics": metrics})
        (folder / "build/demo" / name / "manifest.json").write_text(text)


def test_two_real_effects_are_printed_with_error_bars(demo: ModuleType, tmp_path: Path) -> None:
    artifacts(
        tmp_path, measured("eval_loss", 2.5, 2.0, 0.05), measured("preference", 0.4, 0.8, 0.08)
    )
    loss, preference = demo.check_tuning()
    assert "2.500 ± 0.050 -> 2.000 ± 0.050" in loss
    assert "change -0.500 ± 0.050 (n=30" in loss
    assert "change +0.400 ± 0.080 (n=30" in preference


@pytest.mark.parametrize(
    ("loss", "preference"),
    [
        ((2.5, 2.45, 0.05), (0.4, 0.8, 0.08)),  # one standard error is noise
        ((2.5, 3.0, 0.05), (0.4, 0.8, 0.08)),
        ((2.5, 2.0, 0.05), (0.4, 0.5, 0.08)),
        ((2.5, 2.0, 0.05), (0.8, 0.4, 0.08)),
        ((2.5, 2.0, float("nan")), (0.4, 0.8, 0.08)),  # unmeasured is no effect
    ],
)
def test_no_effect_fails(
    demo: ModuleType,
    tmp_path: Path,
    loss: tuple[float, float, float],
    preference: tuple[float, float, float],
) -> None:
    artifacts(tmp_path, measured("eval_loss", *loss), measured("preference", *preference))
    with pytest.raises(demo.DemoError, match="can be told from noise"):
        demo.check_tuning()


def test_the_table_sums_seconds_and_takes_the_largest_memory(demo: ModuleType) -> None:
    rows = [
        demo.Row("ingest", "build/demo/ingest", "5 chunks", 1.5, 700, "", True),
        demo.Row("sft", "build/demo/sft", "loss 2 -> 1", 2.0, 2600, "build/demo/sft/r.html", True),
    ]
    lines = demo.table(rows).splitlines()
    assert lines[0].split() == ["stage", "artifact", "what", "came", "out", *lines[0].split()[5:]]
    assert lines[-1].split() == ["all", "3.5", "2600"]


def test_a_demo_without_the_guard_fails(demo: ModuleType) -> None:
    with pytest.raises(demo.DemoError, match="guard was not active"):
        demo.guard_line()


def test_the_guard_tells_what_it_refused(demo: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "build/demo").mkdir(parents=True)
    (tmp_path / "build/demo/guard.log").write_text("active 1\nactive 2\nrefused 'a.invalid' 2\n")
    line = demo.guard_line()
    assert "2 processes" in line and "refused 1 attempts ('a.invalid')" in line


def test_every_process_of_the_demo_is_guarded(demo: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "build/demo").mkdir(parents=True)
    subprocess.run([sys.executable, "-c", "pass"], env=demo.environment(), check=True)
    assert "1 processes" in demo.guard_line()


def test_the_server_is_found_on_stdout(demo: ModuleType) -> None:
    code = "print('ready', flush=True); print('http://127.0.0.1:8123/v1', flush=True)"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert demo.address_of(process) == "http://127.0.0.1:8123"
    process.communicate()


def test_a_server_that_ends_early_is_an_error(demo: ModuleType) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE, text=True)
    with pytest.raises(demo.DemoError, match="before it was ready"):
        demo.address_of(process)
    process.communicate()
