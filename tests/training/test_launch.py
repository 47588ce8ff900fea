"""Several processes give what one gives, and fail as one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama, tiny_tokenizer
from training_runs import CHAT, PAIRS, killed, log, recipe, run

from llmctl.artifact import Artifact
from llmctl.errors import InputError, LlmctlError
from llmctl.training import launch, samples

pytestmark = pytest.mark.model

TOLERANCE = 2e-5
"""Losses in nats: sums over two processes are added in another order than over one."""


TOGETHER: dict[str, dict[str, Any]] = {
    "ddp": {"eval_every": 3},
    "fsdp": {"eval_every": 3},
    "tensor": {
        "method": "full", "eval_every": 1, "keep_best": True,
        "gradient_checkpointing": True, "neftune_alpha": 5.0,
    },
}  # fmt: skip
"""Strategy -> what its recipe says beside two processes."""
Runs = Callable[[str], Artifact]


@pytest.fixture(scope="module")
def alone(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Strategy -> a run of one process that says the same."""

    def one(full: bool) -> Artifact:
        keys = TOGETHER["tensor" if full else "ddp"]
        return run(recipe("sft", tiny_model, CHAT, **keys), tmp_path_factory.mktemp("one"))

    kept = cache(one)
    return lambda strategy: kept(strategy == "tensor")


def together(strategy: str, model: Path) -> Any:
    """The recipe of two processes."""
    about = {"processes": 2, "strategy": strategy}
    return recipe("sft", model, CHAT, launch=about, save_every=1, **TOGETHER[strategy])


@pytest.fixture(scope="module")
def untouched(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    """Strategy -> a run of two processes that nobody killed."""
    return cache(lambda name: run(together(name, tiny_model), tmp_path_factory.mktemp(name)))


def curve(artifact: Artifact, key: str = "loss") -> list[float]:
    """A column of metrics.jsonl."""
    return [row[key] for row in log(artifact) if key in row]


@pytest.mark.parametrize("strategy", TOGETHER)
def test_two_processes_have_the_losses_of_one(untouched: Runs, alone: Runs, strategy: str) -> None:
    one, two = alone(strategy), untouched(strategy)
    assert curve(two) == pytest.approx(curve(one), abs=TOLERANCE)
    assert curve(two, "eval_loss") == pytest.approx(curve(one, "eval_loss"), abs=TOLERANCE)
    answered = [(each.folder / "samples.jsonl").read_text().splitlines() for each in (one, two)]
    steps = [[json.loads(line)["step"] for line in lines] for lines in answered]
    assert steps[0] == steps[1] and len(set(steps[0])) >= 2
    assert two.metrics["eval_loss_after"] < two.metrics["eval_loss_before"]
    assert (two.folder / "model/model.safetensors").is_file()
    assert two.summary and isinstance(two.summary[0], tuple)


@pytest.mark.parametrize(
    ("strategy", "wanted"),
    [
        pytest.param("ddp", "optimizer.pt", marks=pytest.mark.slow),
        ("fsdp", "optimizer.bin"),
        pytest.param("tensor", "optimizer", marks=pytest.mark.slow),
    ],
)
def test_two_processes_that_are_killed_continue(
    tiny_model: Path, tmp_path: Path, untouched: Runs, strategy: str, wanted: str
) -> None:
    """SIGKILL of their parent while they write a checkpoint ends them; the next run is equal."""
    made = together(strategy, tiny_model)
    killed(made, tmp_path, f"checkpoint-2/{wanted}")
    again = run(made, tmp_path)
    assert curve(again) == curve(untouched(strategy))
    assert curve(again, "eval_loss") == curve(untouched(strategy), "eval_loss")
    file = "model/model.safetensors"
    assert (again.folder / file).read_bytes() == (untouched(strategy).folder / file).read_bytes()


def test_heads_that_cannot_be_shared_out(tmp_path: Path) -> None:
    from llmctl.training import split

    letters = tiny_llama(tmp_path)
    assert split.settings(letters, 1) == {}
    with pytest.raises(InputError, match="2 num_attention_heads cannot be shared out among 3"):
        split.settings(letters, 3)


def test_muon_is_shared_out_and_saved(tiny_model: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"optimizer": "muon", "max_steps": 2, "samples": {"rows": 0}}
    one = run(recipe("sft", tiny_model, CHAT, **keys), tmp_path / "one")
    shared = {"launch": {"processes": 2, "strategy": "fsdp"}, "save_every": 1, **keys}
    two = run(recipe("sft", tiny_model, CHAT, **shared), tmp_path / "two")
    losses = [[row["loss"] for row in log(each)] for each in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=TOLERANCE)
    assert (tmp_path / "two/scratch/checkpoints/checkpoint-2/whole.json").is_file()


def test_two_processes_have_the_preferences_of_one(tmp_path: Path) -> None:
    letters = tiny_llama(tmp_path / "letters")
    keys = {"batch_size": 2, "gradient_accumulation": 2, "samples": {"rows": 0}}
    one = run(recipe("dpo", letters, PAIRS, **keys), tmp_path / "one")
    shared = {"launch": {"processes": 2}, "precompute_reference": True, **keys}
    two = run(recipe("dpo", letters, PAIRS, **shared), tmp_path / "two")
    kept = json.loads((tmp_path / "two" / "reference.json").read_text())["columns"]
    assert len(kept["ref_chosen_logps"]) == one.metrics["train_rows"]
    losses = [[row["loss"] for row in log(each) if "loss" in row] for each in (one, two)]
    assert losses[1] == pytest.approx(losses[0], abs=TOLERANCE)
    assert losses[0][-1] < losses[0][0]
    for name in ("preference_before", "reward_margin"):
        assert two.metrics[name] == pytest.approx(one.metrics[name], abs=TOLERANCE)
    measured = [path.relative_to(two.scratch) for path in two.scratch.rglob("before.json")]
    assert sorted(map(str, measured)) == ["before.json", "launch/before.json"]  # by one of the two


def test_the_error_of_a_process_is_the_parents(tmp_path: Path) -> None:
    assert str(launch.error_of(tmp_path, 0, 1)).endswith("its output is above")
    (tmp_path / "rank-1.log").write_text("a\nRuntimeError: no\n")
    assert str(launch.error_of(tmp_path, 1, 1)) == (
        f"process 1 of the training ended: RuntimeError: no; its output is in {tmp_path}/rank-1.log"
    )
    told = {"kind": "InputError", "message": "rows.jsonl:3: wrong"}
    (tmp_path / "error-0.json").write_text(json.dumps(told))
    found = launch.error_of(tmp_path, 0, 1)
    assert isinstance(found, InputError) and str(found) == "rows.jsonl:3: wrong"


@pytest.mark.parametrize(
    ("ends", "said"),
    [
        ([None, -9], "process 1 of the training was ended by SIGKILL, as the system does when mem"),
        ([-15, None], "process 0 of the training was ended by SIGTERM; its output is above"),
        ([1, -11, 1], "process 1 of the training was ended by SIGSEGV; its output is in .*1.log"),
        ([-6, -9], "process 1 of the training was ended by SIGKILL"),  # the first missed it
        ([0, 7], "process 1 of the training ended; its output is in"),
    ],
)
def test_the_process_that_died_is_named_and_the_others_are_ended(
    tmp_path: Path, ends: list[int | None], said: str
) -> None:
    """What each process ends with, None for one that would go on; below 0 it is a signal."""
    codes = {None: "time.sleep(60)"}
    started = []
    for end in ends:
        code = codes.get(end) or (f"os.kill(os.getpid(), {-end})" if end < 0 else f"exit({end})")
        started.append(subprocess.Popen([sys.executable, "-c", f"import os, time; {code}"]))
    for each, end in zip(started, ends, strict=True):
        if end is not None:
            each.wait()
    with pytest.raises(LlmctlError, match=said) as error:
        launch._wait(started, tmp_path)
    assert "\n" not in str(error.value) and error.value.exit_code == 1
    assert all(each.returncode is not None for each in started)


def test_a_process_that_misses_another_prints_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """gloo raises in the processes that are left; the parent says in one line who is gone."""
    from llmctl.training import worker

    def lost(*_: Any) -> None:
        raise RuntimeError("Connection closed by peer [127.0.0.1]:4711")

    monkeypatch.setenv("RANK", "0")
    monkeypatch.setattr("llmctl.stages.sft.run", lost)
    asked = recipe("sft", Path("model"), CHAT).model_dump(mode="json", exclude_unset=True)
    job = {"recipe": asked, "inputs": {}, "folder": str(tmp_path), "forced": False}
    (tmp_path / "job.json").write_text(json.dumps(job))
    assert worker.main(tmp_path) == 1
    assert capfd.readouterr().err == ""
    assert "Connection closed by peer" in (tmp_path / "rank-0.log").read_text()


def test_what_a_process_still_says_leaves_its_traceback_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its output and the traceback that it adds to the log itself go to one file."""
    process = tmp_path / "process"
    process.write_text("#!/bin/sh\necho one\necho two >> $3/rank-$RANK.log\necho three\n")
    process.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(process))
    for each in launch._start(tmp_path, 2):
        assert each.wait() == 0
    assert (tmp_path / "rank-1.log").read_text() == "one\ntwo\nthree\n"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"processes": 3}, "make it a multiple"),
        ({"strategy": "fsdp"}, "needs processes: 2 or more"),
        ({"processes": 2, "offload": True}, "offload says nothing to strategy: ddp"),
        ({"processes": 2, "strategy": "tensor"}, "write method: full, or use fsdp"),
    ],
)
def test_a_launch_that_cannot_be_is_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe("sft", Path("model"), CHAT, launch=keys)


def test_deepspeed_gets_its_settings_and_has_to_be_installed() -> None:
    from llmctl.training import config

    about = {"processes": 2, "strategy": "zero3", "offload": True}
    made = recipe("sft", Path("model"), CHAT, launch=about)
    zero = config.shared_out(made)["deepspeed"]["zero_optimization"]
    assert zero["stage"] == 3 and zero["offload_param"] == {"device": "cpu"}
    assert made.all_needs()["deepspeed"] == "deepspeed"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("strategy", "method"), [("zero2", "lora"), ("zero3", "lora"), ("zero3", "full")]
)
def test_deepspeed_has_the_losses_of_one(
    tiny_model: Path, tmp_path: Path, strategy: str, method: str
) -> None:
    """On a CPU, also when it was killed; `pip install deepspeed` first (it compiles a minute)."""
    pytest.importorskip("deepspeed")
    keys: dict[str, Any] = {"eval_every": 3, "method": method}
    one = run(recipe("sft", tiny_model, CHAT, **keys), tmp_path / "one")
    about = {"launch": {"processes": 2, "strategy": strategy}, "save_every": 1}
    made = recipe("sft", tiny_model, CHAT, **about, **keys)
    killed(made, tmp_path / "two", "checkpoint-2/trainer_state.json")
    two = run(made, tmp_path / "two")
    for key in ("loss", "eval_loss"):
        assert curve(two, key) == pytest.approx(curve(one, key), abs=TOLERANCE)
    after = [each.metrics["eval_loss_after"] for each in (one, two)]
    assert after[1] == pytest.approx(after[0], abs=1e-4)  # of the weights that were saved


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("strategy", ["fsdp", "zero2", "zero3"])
def test_two_gpus_have_the_losses_of_one(
    tiny_model: Path, tmp_path: Path, alone: Runs, strategy: str
) -> None:
    if strategy != "fsdp":
        pytest.importorskip("deepspeed")
    about = {"processes": 2, "strategy": strategy}
    artifact = run(recipe("sft", tiny_model, CHAT, launch=about, precision="fp32"), tmp_path)
    assert curve(artifact) == pytest.approx(curve(alone(strategy)), abs=1e-3)


def test_what_one_process_is_enough_for_is_done_by_the_first_while_others_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Artifact(tmp_path / "out")
    second = Artifact(first.scratch / launch.FOLDER / "rank-1")
    for each in (first, second):
        each.scratch.mkdir(parents=True, exist_ok=True)
    done: list[str] = []
    monkeypatch.setenv(launch.INSIDE, "1")
    monkeypatch.setenv("RANK", "1")
    # what waits in the second is what the first does
    monkeypatch.setattr(launch.time, "sleep", lambda _: as_the_first())

    def as_the_first() -> None:
        monkeypatch.setenv("RANK", "0")
        launch.by_the_first(first, "judged", lambda: done.append("first"))

    launch.by_the_first(second, "judged", lambda: done.append("second"))
    assert done == ["first"]


@pytest.mark.parametrize(("strategy", "asked"), [("ddp", 1), ("fsdp", 2)])
def test_answers_are_written_by_as_few_processes_as_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, strategy: str, asked: int
) -> None:
    """And what the first one kept counts for all, or one would wait for another after a kill."""
    first = Artifact(tmp_path / "out")
    second = Artifact(first.scratch / launch.FOLDER / "rank-1")
    about = {"launch": {"processes": 2, "strategy": strategy}, "samples": {"prompts": ["hello"]}}
    made: Any = recipe("sft", tmp_path, CHAT, **about)
    answers: list[int] = []
    monkeypatch.setattr(samples, "answers", lambda *_: answers.append(1) or ["hi"])
    for rank, artifact in ((1, second), (0, first), (1, second)):  # the third is after a kill
        artifact.scratch.mkdir(parents=True, exist_ok=True)
        monkeypatch.setenv("RANK", str(rank))
        samples.Written(artifact, tiny_tokenizer(), made, []).write(None, 3)
    assert len(answers) == asked
    assert [path.parent for path in tmp_path.rglob("samples-3.json")] == [first.scratch]
