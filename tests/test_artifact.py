"""An artifact is whole or absent, and made again exactly when something that counts changed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from llmctl import artifact as artifacts
from llmctl import digest, runner
from llmctl.errors import InputError, LlmctlError, RecipeError
from llmctl.runner import Options, plan

ROWS = [
    {"id": f"r{i}", "text": f"row {i} about {word} and the number {i * i} in a sentence"}
    for i, word in enumerate(["apples", "pears", "plums", "grapes", "dates", "figs"])
]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A recipe that was run once: dedup of six rows."""
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    recipe = {"stage": "dedup", "out": str(tmp_path / "out"), "data": str(data), "seed": 1}
    (tmp_path / "r.yaml").write_text(yaml.safe_dump(recipe))
    result = runner.run("dedup", tmp_path / "r.yaml", Options())
    assert result["status"] == "done"
    return tmp_path


def reasons(project: Path, *sets: str) -> list[str]:
    return plan("dedup", project / "r.yaml", Options(sets)).reason


def flip(path: Path, random: Random) -> None:
    """Change one byte, keeping the size."""
    data = bytearray(path.read_bytes())
    data[random.randrange(len(data))] ^= 1 << random.randrange(7)
    path.write_bytes(data)


def case_recipe(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    seed = random.randrange(2, 2**32)
    edit(project, lambda recipe: recipe.update(seed=seed))
    return f"recipe: seed 1 -> {seed}"


def case_recipe_default_changed(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    threshold = round(random.uniform(0.5, 0.79), 3)
    methods = [{"kind": "exact"}, {"kind": "minhash", "threshold": threshold}]
    edit(project, lambda recipe: recipe.update(methods=methods))
    return "recipe: methods"


def case_input(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    path = project / "rows.jsonl"
    text = path.read_text()
    digits = [i for i, c in enumerate(text) if c.isdigit()]
    at = random.choice(digits)
    path.write_text(text[:at] + str((int(text[at]) + 1) % 10) + text[at + 1 :])
    return "input data changed"


def case_package(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    old = runner.version
    new = f"{random.randrange(9)}.{random.randrange(99)}"
    patch.setattr(runner, "version", lambda name: new if name == "numpy" else old(name))
    return f"package numpy {old('numpy')} -> {new}"


def case_output(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    manifest = artifacts.read_manifest(project / "out")
    assert manifest is not None
    name = random.choice([n for n, o in sorted(manifest["outputs"].items()) if o["bytes"]])
    flip(project / "out" / name, random)
    return f"output {name} was changed"


def case_output_gone(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    manifest = artifacts.read_manifest(project / "out")
    assert manifest is not None
    name = random.choice(sorted(manifest["outputs"]))
    (project / "out" / name).unlink()
    return f"output {name} is missing"


def case_implementation(project: Path, random: Random, patch: pytest.MonkeyPatch) -> str:
    from llmctl.schema.dedup import DedupRecipe

    new = DedupRecipe.impl + random.randrange(1, 9)
    patch.setattr(DedupRecipe, "impl", new)
    return f"-> {new}"


def edit(project: Path, change: Callable[[dict[str, Any]], None]) -> None:
    recipe = yaml.safe_load((project / "r.yaml").read_text())
    change(recipe)
    (project / "r.yaml").write_text(yaml.safe_dump(recipe))


def case_key_order(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    recipe = list(yaml.safe_load((project / "r.yaml").read_text()).items())
    random.shuffle(recipe)
    (project / "r.yaml").write_text(yaml.safe_dump(dict(recipe), sort_keys=False))


def case_comment(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    lines = (project / "r.yaml").read_text().splitlines()
    lines.insert(random.randrange(len(lines) + 1), f"# {random.random()}")
    (project / "r.yaml").write_text("\n".join(lines) + "\n\n")


def case_written_default(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    edit(project, lambda recipe: recipe.update(version=1))


def case_mtime(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    files = [project / "rows.jsonl", project / "r.yaml", *digest.files_of(project / "out")]
    when = random.randrange(10**9, 2 * 10**9)
    os.utime(random.choice(files), (when, when))


def case_clock(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(time, "time", lambda: random.random() * 1e10)


def case_host(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    import platform

    patch.setattr(platform, "node", lambda: str(random.random()))
    patch.setattr(platform, "platform", lambda: str(random.random()))
    patch.setattr(os, "cpu_count", lambda: random.randrange(1, 99))


def case_unused_package(project: Path, random: Random, patch: pytest.MonkeyPatch) -> None:
    old = runner.version
    patch.setattr(runner, "version", lambda name: "9" if name == "torch" else old(name))


MUST_RUN = [
    case_recipe,
    case_recipe_default_changed,
    case_input,
    case_package,
    case_output,
    case_output_gone,
    case_implementation,
]
MUST_SKIP = [
    case_key_order,
    case_comment,
    case_written_default,
    case_mtime,
    case_clock,
    case_host,
    case_unused_package,
]


@pytest.mark.parametrize("case", [*MUST_RUN, *MUST_SKIP], ids=lambda case: case.__name__)
def test_it_runs_again_exactly_when_something_that_counts_changed(
    project: Path, case: Callable[..., str | None]
) -> None:
    """15 generated cases of each of 14 kinds: 210 in all."""
    saved = project.parent / f"{project.name}-saved"
    shutil.copytree(project, saved)
    assert reasons(project) == []
    for number in range(15):
        random = Random(f"{case.__name__}{number}")
        with pytest.MonkeyPatch.context() as patch:
            expected = case(project, random, patch)
            found = reasons(project)
        if expected is None:
            assert found == [], number
        else:
            assert len(found) >= 1 and any(expected in each for each in found), (number, found)
            assert case is case_recipe_default_changed or len(found) == 1, found
        shutil.rmtree(project)
        shutil.copytree(saved, project)


def test_a_failed_run_leaves_the_old_artifact(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmctl.stages import dedup

    before = (project / "out" / "manifest.json").read_bytes()

    def broken(recipe: Any, artifact: artifacts.Artifact) -> None:
        artifact.write_text("kept.jsonl", "half")
        raise LlmctlError("broken on purpose")

    with monkeypatch.context() as patch:
        patch.setattr(dedup, "run", broken)
        with pytest.raises(LlmctlError, match="on purpose"):
            runner.run("dedup", project / "r.yaml", Options(force=True))
    assert (project / "out" / "manifest.json").read_bytes() == before
    assert reasons(project) == []
    assert runner.run("dedup", project / "r.yaml", Options(force=True))["status"] == "done"
    assert not (project / "out.partial").exists()


def test_what_is_no_number_is_null_since_json_has_none(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmctl.stages import dedup

    def measured(recipe: Any, artifact: artifacts.Artifact) -> None:
        artifact.metrics |= {"kappa": float("nan"), "tasks": {"a": [1.5, float("inf")]}}
        artifact.write_json("table.json", {"se": float("nan"), "rows": (1, 2)})

    monkeypatch.setattr(dedup, "run", measured)
    found = runner.run("dedup", project / "r.yaml", Options(force=True))["metrics"]
    assert found == {"kappa": None, "tasks": {"a": [1.5, None]}}
    assert json.loads((project / "out" / "table.json").read_text()) == {"se": None, "rows": [1, 2]}


def test_an_input_that_was_changed_after_it_was_made_is_refused(
    project: Path, tmp_path: Path
) -> None:
    kept = project / "out" / "kept.jsonl"
    second = {"stage": "dedup", "out": str(tmp_path / "two"), "data": str(project / "out")}
    (tmp_path / "two.yaml").write_text(yaml.safe_dump(second))
    assert runner.run(None, tmp_path / "two.yaml", Options())["status"] == "done"
    flip(kept, Random(1))
    with pytest.raises(InputError) as error:
        plan(None, tmp_path / "two.yaml", Options())
    assert "kept.jsonl was changed after `llmctl dedup` made it" in str(error.value)
    assert str(error.value).startswith(f"{tmp_path / 'two.yaml'}:")


def test_a_run_that_was_killed_before_its_rename_is_published(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(artifacts, "_publish", lambda partial, out: None)
        runner.run("dedup", project / "r.yaml", Options(("seed=5",)))
    assert artifacts.read_manifest(project / "out.partial") is not None
    monkeypatch.setattr(runner, "execute", lambda planned: pytest.fail("ran again"))
    result = runner.run("dedup", project / "r.yaml", Options(("seed=5",)))
    assert result["status"] == "up to date"
    assert not (project / "out.partial").exists()


def test_what_llmctl_did_not_write_is_not_replaced(project: Path) -> None:
    (project / "mine").mkdir()
    (project / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="files that llmctl did not write"):
        runner.run("dedup", project / "r.yaml", Options(out=project / "mine"))
    with pytest.raises(RecipeError, match="is a file"):
        runner.run("dedup", project / "r.yaml", Options(out=project / "rows.jsonl"))
    assert (project / "mine" / "thesis.txt").read_text() == "years of work"


def intact(out: Path) -> bool:
    """A manifest, where there is one, describes what is there to the byte."""
    manifest = artifacts.read_manifest(out)
    if manifest is None:
        assert not out.exists(), f"{out} without a manifest"
        return False
    assert artifacts.changed_output(out, manifest, reread=True) is None
    return True


CHAIN = """
import sys
from pathlib import Path
from llmctl.runner import Options, run
from llmctl import ui
ui.configure(quiet=True)
for name in ("a", "b", "c"):
    run("dedup", Path(sys.argv[1]) / f"{name}.yaml", Options())
"""


def test_what_a_kill_after_the_exchange_left_is_swept(tmp_path: Path) -> None:
    """The predecessor goes; an unfinished run of another recipe stays."""
    left = tmp_path / "a.partial"
    left.mkdir()
    (left / "manifest.json").write_text("{}")
    artifacts.sweep(tmp_path / "a")
    assert not left.exists()
    left.mkdir()
    (left / artifacts.BUILDING).write_text("{}")
    artifacts.sweep(tmp_path / "a")
    assert left.exists()


def test_kill_9_at_50_random_moments(tmp_path: Path) -> None:
    """No manifest ever describes an output that is missing or different; the next run finishes."""
    rows = [{**row, "id": f"{row['id']}-{n}", "text": f"{row['text']} {n % 300}"}
            for n in range(500) for row in ROWS]  # fmt: skip
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = str(data)
    for name in ("a", "b", "c"):
        recipe = {"stage": "dedup", "out": str(tmp_path / name), "data": source}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(recipe))
        source = str(tmp_path / name)
    random = Random(9)
    command = [sys.executable, "-c", CHAIN, str(tmp_path)]
    start = time.monotonic()
    subprocess.run(command, check=True)
    whole = time.monotonic() - start
    kills = 0
    for number in range(200):
        if kills == 50:
            break
        if number % 2 or not any((tmp_path / name).exists() for name in ("a", "b", "c")):
            for name in ("a", "b", "c")[number % 3 :]:
                shutil.rmtree(tmp_path / name, ignore_errors=True)
        else:  # everything is made again, over what is there
            data.write_text(data.read_text() + json.dumps({**ROWS[0], "id": f"k{number}"}) + "\n")
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=random.uniform(0.15, whole))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
        for name in ("a", "b", "c"):
            intact(tmp_path / name)
    subprocess.run(command, check=True)
    assert all(intact(tmp_path / name) for name in ("a", "b", "c"))
    assert kills == 50
    assert not list(tmp_path.glob("*.partial"))


def test_the_second_of_two_runs_waits(project: Path) -> None:
    command = [sys.executable, "-m", "llmctl", "dedup", str(project / "r.yaml"), "--set", "seed=7"]
    with artifacts.locked(project / "out", "here"):
        second = subprocess.Popen(
            command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert second.stderr is not None
        line = second.stderr.readline()
        assert "waiting for it" in line and str(os.getpid()) in line
        assert second.poll() is None
    out, _ = second.communicate(timeout=60)
    assert second.returncode == 0 and out.strip() == str(project / "out")


def test_two_runs_at_once_do_the_work_once(project: Path) -> None:
    command = [sys.executable, "-m", "llmctl", "dedup", str(project / "r.yaml"), "--set", "seed=8"]
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = "".join(each.communicate(timeout=60)[1] for each in both)
    assert [each.returncode for each in both] == [0, 0]
    assert said.count("runs because") == 1 and said.count("is up to date") == 1
    assert intact(project / "out")


def test_digests_are_cached_and_notice_a_change(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    first = digest.of_file(path)
    assert digest.of_file(path) == first
    path.write_text("two")
    assert digest.of_file(path) != first
    assert digest.of_file(path) == digest.of_file(path, reread=True)


def test_a_file_is_hashed_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, ended = tmp_path / "growing.bin", threading.Event()
    path.touch()
    hashing = threading.Thread(target=digest.while_written, args=(path, ended))
    hashing.start()
    with path.open("wb") as file:
        for number in range(50):
            file.write(bytes([number]) * 100_000)
            file.flush()
    ended.set()
    hashing.join()
    right = hashlib.sha256(path.read_bytes()).hexdigest()
    with monkeypatch.context() as patched:
        patched.setattr(hashlib, "file_digest", None)  # it is known, and not read again
        assert digest.of_file(path) == right
    path.write_bytes(b"later")
    assert digest.of_file(path) == hashlib.sha256(b"later").hexdigest()


def test_remembering_a_digest_does_not_wait_for_the_disk(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    digest.of_file(path)
    database = digest._database()
    assert database is not None
    assert database.execute("PRAGMA synchronous").fetchone() == (1,)  # NORMAL: at checkpoints only


def test_the_peak_is_not_that_of_the_process_that_started_this_one() -> None:
    inside = "from llmctl.artifact import peak_memory_mb; print(peak_memory_mb())"
    code = (
        "import subprocess, sys; held = bytearray(400 << 20); held[::4096] = b'x' * 102400;"
        f"subprocess.run([sys.executable, '-c', {inside!r}], check=True)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert 5 < int(done.stdout) < 300
