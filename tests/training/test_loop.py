"""The loop of every training stage: measured on the way, warned in time, whole after a failure."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from training_runs import CHAT, log, recipe, run, weights

from llmctl.errors import LlmctlError, MissingError
from llmctl.training.spikes import Spikes

pytestmark = pytest.mark.model


def rates(scheduler: str, steps: int = 20, **keys: Any) -> list[float]:
    """The learning rate of each step, as transformers' scheduler gives it, peak 1."""
    from transformers import get_scheduler

    from llmctl.training import config

    made = recipe("sft", Path("model"), CHAT, scheduler=scheduler, warmup=0, **keys)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = get_scheduler(
        config.SCHEDULERS.get(scheduler, scheduler),
        optimizer,
        num_warmup_steps=0,
        num_training_steps=steps,
        scheduler_specific_kwargs=config.schedule_options(made, steps),
    )
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return found


def test_schedules_have_the_shape_that_the_recipe_names() -> None:
    assert rates("cosine_with_min_lr", min_rate=0.25)[-1] == pytest.approx(0.25, abs=0.02)
    stays = rates("wsd", decay=0.5, min_rate=0.1)
    assert stays[:10] == [1.0] * 10 and stays[-1] < 0.15 and stays[-1] >= 0.1
    assert rates("inverse_sqrt")[-1] > 0.9  # without warm-up its scale is 10,000 steps
    assert rates("linear")[-1] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"patience": 2}, "set eval_every"),
        ({"keep_best": True}, "set eval_every"),
        ({"min_rate": 0.1}, "min_rate says nothing to cosine"),
        ({"decay": 0.1}, "decay says nothing"),
        ({"warmup": 1.5}, "whole number of steps"),
        ({"optimizer": "adam"}, "no optimizer named 'adam', did you mean 'adamw'"),
    ],
)
def test_keys_that_say_nothing_are_refused(keys: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        recipe("sft", Path("model"), CHAT, **keys)


@pytest.mark.parametrize("keys", [{"precision": "fp16"}, {"liger_kernel": True}])
def test_what_needs_a_gpu_is_told_before_anything_is_loaded(
    keys: dict[str, Any], tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(MissingError, match="needs a GPU"):
        run(recipe("sft", Path("no model"), CHAT, **keys), tmp_path)


@pytest.mark.parametrize(
    "optimizer",
    ["adamw_8bit", "adamw_paged", "adafactor", "lion", {"kind": "sgd", "momentum": 0.9}],
)
def test_every_optimizer_trains(tiny_model: Path, tmp_path: Path, optimizer: Any) -> None:
    if "adamw_" in str(optimizer) or optimizer == "lion":
        pytest.importorskip("bitsandbytes")
    made = recipe("sft", tiny_model, CHAT, optimizer=optimizer, max_steps=2, samples={"rows": 0})
    first, last = log(run(made, tmp_path))
    assert first["learning_rate"] == 0.0 and last["loss"] > 0  # the first step warms up


def test_muon_resumes_to_the_same_bytes(tiny_model: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"optimizer": "muon", "max_steps": 2, "samples": {"rows": 0}}
    made = recipe("sft", tiny_model, CHAT, save_every=1, **keys)
    whole = weights(run(made, tmp_path))
    shutil.rmtree(tmp_path / "scratch/checkpoints/checkpoint-2")
    assert weights(run(made, tmp_path)) == whole


def test_the_state_of_each_optimizer_is_as_large_as_it_says(tiny_model: Path) -> None:
    """The bytes in torch's own state after one step, against what the estimate is told."""
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    from llmctl.optimizers.base import Optimizer
    from llmctl.training import config

    for kind in ("adamw", "adamw_8bit", "adafactor", "lion", "sgd", "muon"):
        made = recipe("sft", tiny_model, CHAT, optimizer=kind)
        model = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        args = TrainingArguments(output_dir="x", use_cpu=True, **made.optimizer.arguments())
        trainer = Trainer(model, args, optimizer_cls_and_kwargs=config.optimizer_factory(made))
        optimizer = trainer.create_optimizer()
        for parameter in model.parameters():
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        held = sum(
            each.numel() * each.element_size()
            for state in optimizer.state.values()
            for each in state.values()
            if isinstance(each, torch.Tensor) and each.numel() not in (1, 256)  # a counter, codes
        )
        shapes = [tuple(parameter.shape) for parameter in model.parameters()]
        table = shapes[0] if kind in ("adamw_8bit", "muon") else ()
        said = Optimizer.of(kind).state_bytes(shapes)
        # embeddings keep fp32 states in 8-bit AdamW, and take AdamW beside Muon
        extra = {"adamw_8bit": 6, "muon": 4}.get(kind, 0) * (table[0] * table[1] if table else 0)
        assert held == pytest.approx(said + extra, rel=0.02), kind


def test_measuring_on_the_way_changes_nothing_and_is_written(
    tiny_model: Path, tmp_path: Path
) -> None:
    plain = run(recipe("sft", tiny_model, CHAT, max_steps=4), tmp_path / "a")
    measured = run(recipe("sft", tiny_model, CHAT, max_steps=4, eval_every=2), tmp_path / "b")
    assert weights(plain) == weights(measured)
    found = [row for row in log(measured) if "eval_loss" in row]
    assert [row["step"] for row in found] == [2, 4]
    assert found[-1]["eval_loss"] == pytest.approx(measured.metrics["eval_loss_after"], abs=1e-3)
    assert measured.metrics["perplexity_after"] < measured.metrics["perplexity_before"]
    answers = [json.loads(line) for line in (tmp_path / "b/samples.jsonl").open()]
    assert {row["step"] for row in answers} == {0, 2, 4}
    page = (tmp_path / "b/report.html").read_text()
    assert "held out" in page and "BEFORE: " in page and "gradient_accumulation" in page


def test_the_best_is_kept_and_a_run_without_progress_ends(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmctl.training import causal

    values = iter([3.0, 1.0, 2.0, 2.5, 2.6])
    monkeypatch.setattr(causal, "mean_loss", lambda _: {"eval_loss": next(values)})
    keys = {"max_steps": 8, "eval_every": 1, "samples": {"rows": 0}}
    made = recipe("sft", tiny_model, CHAT, patience=2, keep_best=True, **keys)
    artifact = run(made, tmp_path / "a")
    assert artifact.metrics["steps"] == 4  # the best at 2, then two without a better one
    assert (artifact.metrics["best_step"], artifact.metrics["best_eval_loss"]) == (2, 1.0)
    best = tmp_path / "a/scratch/checkpoints/checkpoint-2/adapter_model.safetensors"
    assert weights(artifact)[0] == best.read_bytes()
    again = run(made, tmp_path / "a")  # killed before it was published: nothing is trained again
    assert weights(again) == weights(artifact) and again.metrics["steps"] == 4


def test_a_jump_is_an_alarm_and_a_ripple_is_not() -> None:
    watch = Spikes(6.0)
    for step in range(15):
        assert not watch.check({"loss": 2.0 + 0.05 * (step % 3), "grad_norm": 1.0})
    assert not watch.check({"loss": 2.4})
    assert watch.check({"loss": 4.0, "grad_norm": 1.1}) == {"loss": (4.0, 2.05)}
    assert "grad_norm" in watch.check({"grad_norm": 40.0})
    assert not Spikes(6.0).check({"loss": 1e9})  # nothing to compare with yet


def test_an_alarm_is_told_and_can_end_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("llmctl.training.spikes.FEWEST", 1)
    monkeypatch.setattr(Spikes, "check", lambda self, row: {"loss": (9.0, 1.0)})
    artifact = run(recipe("sft", tiny_model, CHAT, max_steps=2), tmp_path / "a")
    assert "warning: step 1: loss 9 (usually 1)" in capsys.readouterr().err
    assert artifact.metrics["alarms"] == 2 and log(artifact)[0]["alarm"] == ["loss"]
    with pytest.raises(LlmctlError, match=r"step 1: loss 9 .* because of stop_on_spike"):
        run(recipe("sft", tiny_model, CHAT, stop_on_spike=True), tmp_path / "b")


def test_a_loss_that_is_no_number_ends_the_run(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The trainer by itself would write it as 0, the mean of nothing."""
    from trl.trainer.sft_trainer import SFTTrainer

    monkeypatch.setattr(SFTTrainer, "training_step", lambda *_, **__: torch.tensor(math.nan))
    with pytest.raises(LlmctlError, match=r"step 1: the loss is nan; lower learning_rate"):
        run(recipe("sft", tiny_model, CHAT), tmp_path)


def without_memory(monkeypatch: pytest.MonkeyPatch, largest: int, at: int = 1) -> None:
    """From a step on, more than `largest` rows in a pass fail as torch's allocator does."""
    from trl.trainer.sft_trainer import SFTTrainer

    step = SFTTrainer.training_step

    def failing(self: Any, model: Any, inputs: Any, *rest: Any) -> Any:
        if len(inputs["input_ids"]) > largest and self.state.global_step >= at:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried")
        return step(self, model, inputs, *rest)

    monkeypatch.setattr(SFTTrainer, "training_step", failing)


def test_memory_that_runs_out_is_one_line_with_the_changes(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_memory(monkeypatch, 2)
    made = recipe("sft", tiny_model, CHAT, batch_size=4, gradient_accumulation=1, packing=False)
    with pytest.raises(LlmctlError) as error:
        run(made, tmp_path)
    assert "batch_size: 2, gradient_accumulation: 2" in str(error.value)
    assert "\n" not in str(error.value)


def test_auto_batch_goes_on_smaller_with_the_same_rows_in_a_step(
    tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"packing": False, "max_steps": 2, "save_every": 1, "auto_batch": True}
    small = run(
        recipe("sft", tiny_model, CHAT, batch_size=1, gradient_accumulation=4, **keys),
        tmp_path / "a",
    )
    without_memory(monkeypatch, 1)
    made = recipe("sft", tiny_model, CHAT, batch_size=4, gradient_accumulation=1, **keys)
    artifact = run(made, tmp_path / "b")
    assert artifact.metrics["batch_size_used"] == 1
    found = [row["loss"] for row in log(artifact)]
    assert found == pytest.approx([row["loss"] for row in log(small)], abs=1e-4)


def test_a_live_table_has_the_facts() -> None:
    from rich.console import Console

    from llmctl.training import dashboard

    facts = {"loss": 2.5, "grad_norm": 1.25, "tokens_per_second": 410.0, "memory_gb": 1.9}
    console = Console(width=120)
    with console.capture() as shown:
        console.print(dashboard._table(3, 9, 12.0, 24.0, facts, [4.0, 3.0, 2.5]))
    text = shown.get()
    for part in ("3 of 9 steps", "24 s left", "2.500", "█▃▁", "gradient norm 1.25", "410 tokens/s"):
        assert part in text
