"""A full disk and too little memory are one line wherever they strike a training."""

from __future__ import annotations

import json
import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import PAIRS, recipe, run

from llmctl.errors import LlmctlError
from llmctl.training import adapters, guard, measure, model
from llmctl.training.ppo import loop, state

pytestmark = pytest.mark.model
LIMIT = 16_000
"""Bytes of the largest file on the made-up disk: less than any weights here."""
KEYS: dict[str, Any] = {"max_steps": 2, "save_every": 1, "samples": {"rows": 0}}
PPO = {
    "objective": {
        "kind": "ppo", "rollouts": 4, "passes": 1, "max_new_tokens": 4,
        "rewards": [{"kind": "regex", "pattern": "[a-m]"}],
    },
    "max_steps": 2, "save_every": 1, "batch_size": 4,
}  # fmt: skip


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


@pytest.fixture
def room() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def prompts(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    rows = [{"prompt": [{"role": "user", "content": f"say {n}"}]} for n in range(12)]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


PLACES: dict[str, tuple[Any, str, dict[str, Any], str]] = {
    "adapter": (adapters, "save", {"lora": {"r": 16}}, "checkpoint-1, checkpoint-2"),
    "model": (model, "save", {"method": "full"}, "checkpoint-1, checkpoint-2"),
    "ppo": (state, "save", PPO, "checkpoint-1"),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.usefixtures("room")
def test_a_disk_that_fills_is_one_line_and_the_run_goes_on_later(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    where, name, keys, whole = PLACES[place]
    rows = prompts(tmp_path) if place == "ppo" else PAIRS
    made = recipe("dpo", letters, rows, **({"method": "full"} if place == "ppo" else KEYS), **keys)
    kept, calls = getattr(where, name), []
    free = resource.getrlimit(resource.RLIMIT_FSIZE)

    def filling(*given: Any, **named: Any) -> Any:
        calls.append(given)
        if place != "ppo" or len(calls) == 2:
            resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, free[1]))
        return kept(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(where, name, filling)
        with pytest.raises(LlmctlError) as error:
            run(made, tmp_path / "out")
    resource.setrlimit(resource.RLIMIT_FSIZE, free)
    said = str(error.value)
    assert "the disk is full" in said and "\n" not in said
    assert f"whole checkpoints: {whole};" in said
    again = run(made, tmp_path / "out")
    assert (again.folder / "model/model.safetensors").stat().st_size > LIMIT


def test_every_library_s_words_for_a_full_disk_are_known() -> None:
    for words in (
        "[enforce fail at inline_container.cc:858] . PytorchStreamWriter failed writing file",
        "basic_ios::clear: iostream error",
        "Error while serializing: I/O error: No space left on device (os error 28)",
    ):
        assert guard.was_not_written(RuntimeError(words))
    assert guard.was_not_written(OSError(28, "No space left on device"))
    assert not guard.was_not_written(OSError(2, "No such file or directory", "a.json"))
    assert not guard.was_not_written(ValueError("shape mismatch"))


def fails(*_: Any, **__: Any) -> Any:
    raise RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: not enough memory")


def fails_on_a_gpu(*_: Any, **__: Any) -> Any:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


@pytest.mark.parametrize(
    ("where", "name", "keys", "helps"),
    [
        (model, "load", {"batch_size": 2}, "batch_size: 1, gradient_accumulation: 8; or "),
        (measure, "log_probabilities", {}, "gradient_checkpointing: true; or "),
        (adapters, "merged", {"max_steps": 1}, "gradient_checkpointing: true; or "),
        (loop, "_step", PPO, "batch_size: 2; or batch_size: 1; or "),
    ],
    ids=["loading", "measuring", "merging", "ppo"],
)
def test_memory_that_runs_out_anywhere_is_one_line_with_what_helps(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    where: Any, name: str, keys: dict[str, Any], helps: str,
) -> None:  # fmt: skip
    ppo = where is loop
    made = recipe(
        "dpo", letters, prompts(tmp_path) if ppo else PAIRS,
        **({} if ppo else {"samples": {"rows": 0}}), **keys,
    )  # fmt: skip
    monkeypatch.setattr(where, name, fails_on_a_gpu if ppo else fails)
    with pytest.raises(LlmctlError) as error:
        run(made, tmp_path / "out")
    said = str(error.value)
    assert said.startswith("memory ran out (estimated at ") and "\n" not in said
    assert f"what helps, cheapest first: {helps}" in said
