"""PPO: each formula against values worked out by hand, a policy that learns, and a kill."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import log, recipe, run

from llmctl.errors import LlmctlError
from llmctl.training.ppo import learner, losses, state
from llmctl.training.ppo.advantages import gae, token_rewards, whiten
from llmctl.training.ppo.penalty import Penalty
from llmctl.training.rollouts import Runaway

pytestmark = pytest.mark.model


def rows(*values: list[float]) -> Any:
    return torch.tensor(values, dtype=torch.float64)


MASK = rows([1, 1, 1], [1, 1, 0])


def test_a_score_comes_at_the_last_token_and_the_penalty_at_each() -> None:
    logps = rows([-1.0, -2.0, -3.0], [-1.0, -1.0, -9.0])
    theirs = rows([-1.5, -2.0, -2.0], [-2.0, -0.5, -1.0])
    found = token_rewards(torch.tensor([1.0, -1.0]).double(), logps, theirs, MASK, 0.1)
    # -0.1 (0.5), -0.1 (0), -0.1 (-1) + 1; -0.1 (1), -0.1 (-0.5) - 1, nothing on padding
    assert torch.allclose(found, rows([-0.05, 0.0, 1.1], [-0.1, -0.95, 0.0]))


def test_advantages_are_those_of_the_paper() -> None:
    rewards = rows([0.0, 0.0, 1.0], [0.0, 2.0, 0.0])
    values = rows([0.5, 0.4, 0.8], [1.0, 1.5, 0.0])
    advantages, returns = gae(rewards, values, MASK, 0.9, 0.8)
    # first answer: d_2 = 1 - 0.8 = 0.2; d_1 = 0.9 * 0.8 - 0.4 = 0.32; d_0 = 0.9 * 0.4 - 0.5 = -0.14
    # A_2 = 0.2; A_1 = 0.32 + 0.72 * 0.2 = 0.464; A_0 = -0.14 + 0.72 * 0.464 = 0.19408
    # second: d_1 = 2 - 1.5 = 0.5; d_0 = 0.9 * 1.5 - 1 = 0.35; A_0 = 0.35 + 0.72 * 0.5 = 0.71
    wanted = rows([0.19408, 0.464, 0.2], [0.71, 0.5, 0.0])
    assert torch.allclose(advantages, wanted)
    assert torch.allclose(returns, (wanted + values) * MASK)


def test_without_discount_advantages_are_what_comes_less_what_was_expected() -> None:
    rewards, values = rows([0.1, 0.2, 1.0], [0.3, 2.0, 0.0]), rows([0.5, 0.4, 0.8], [1.0, 1.5, 0.0])
    advantages, returns = gae(rewards, values, MASK, 1.0, 1.0)
    assert torch.allclose(returns, rows([1.3, 1.2, 1.0], [2.3, 2.0, 0.0]))
    assert torch.allclose(advantages, (returns - values) * MASK)


def test_whitened_values_have_mean_zero_and_deviation_one() -> None:
    found = whiten(rows([1.0, 2.0, 3.0], [4.0, 5.0, 99.0]), MASK)
    # mean 3, variance 2
    wanted = rows([-2, -1, 0], [1, 2, 0]) / math.sqrt(2)
    assert torch.allclose(found, wanted, atol=1e-6)


def test_the_clipped_objective_takes_the_smaller_gain() -> None:
    old = torch.zeros(1, 4).double()
    logps = torch.log(rows([1.5, 1.5, 0.5, 0.5]))
    advantages = rows([1.0, -1.0, 1.0, -1.0])
    loss, clipped = losses.policy_loss(logps, old, advantages, torch.ones(1, 4).double(), 0.2)
    # min(1.5, 1.2), min(-1.5, -1.2), min(0.5, 0.8), min(-0.5, -0.8)
    assert float(loss) == pytest.approx(-(1.2 - 1.5 + 0.5 - 0.8) / 4)
    assert float(clipped) == pytest.approx(0.5)


def test_a_value_that_moved_too_far_has_no_gradient() -> None:
    values = rows([1.0, 0.1]).requires_grad_(True)
    loss = losses.value_loss(values, rows([0.0, 0.0]), rows([2.0, 2.0]), rows([1, 1]), 0.2)
    # max((1 - 2)^2, (0.2 - 2)^2) = 3.24; max((0.1 - 2)^2, (0.1 - 2)^2) = 3.61
    assert float(loss) == pytest.approx((3.24 + 3.61) / 4)
    loss.backward()
    assert values.grad is not None
    assert values.grad[0, 0] == 0 and values.grad[0, 1] == pytest.approx(-0.95)


def test_entropy_of_equal_chances_is_the_logarithm_of_their_number() -> None:
    assert losses.entropy(torch.zeros(1, 1, 8)).item() == pytest.approx(math.log(8))


def test_beta_follows_the_kl_as_in_ziegler() -> None:
    penalty = Penalty(0.1, target=6.0, horizon=1000)
    penalty.update(6.6, 100)  # error 0.1
    assert penalty.beta == pytest.approx(0.1 * (1 + 0.1 * 0.1))
    penalty.update(60.0, 100)  # error cut to 0.2
    assert penalty.beta == pytest.approx(0.1 * 1.01 * 1.02)
    fixed = Penalty(0.1)
    fixed.update(60.0, 100)
    assert fixed.beta == 0.1


def test_a_run_that_runs_away_is_told_to_end() -> None:
    runaway = Runaway(stop_kl=0.5, stop_length=2.0)
    assert [runaway.check(0.1, length) for length in (10.0, 10.0, 10.0, 19.0)] == [""] * 4
    assert "stop_length" in runaway.check(0.1, 21.0)
    assert "stop_length" in runaway.check(0.1, 4.0)
    assert "stop_kl 0.5" in runaway.check(0.6, 10.0)


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


def asked(folder: Path) -> Path:
    file = folder / "prompts.jsonl"
    prompts = [[{"role": "user", "content": f"say {letter}"}] for letter in "abcdefghijklmnop"]
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    return file


def made(model: Path, rows: Path, **keys: Any) -> Any:
    objective = {
        "kind": "ppo", "rollouts": 8, "passes": 2, "max_new_tokens": 6,
        "rewards": [{"kind": "regex", "pattern": "[a-m]"}], **keys.pop("objective", {}),
    }  # fmt: skip
    base = {"max_steps": 4, "batch_size": 4, "learning_rate": 3e-3, "beta": 0.02, "save_every": 2}
    return recipe("dpo", model, rows, objective=objective, **{**base, **keys})


def test_a_run_writes_its_figures_and_repeats(letters: Path, tmp_path: Path) -> None:
    judged = {"rows": 2, "judge": {"kind": "match"}}
    asks = made(letters, asked(tmp_path), answers=judged)
    artifact = run(asks, tmp_path / "a")
    assert "own answer is learnt" in (tmp_path / "a/report.html").read_text()
    rows = [json.loads(line) for line in (tmp_path / "a/metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert {"reward", "kl", "length", "entropy", "beta", "clipped", "value_loss"} <= rows[0].keys()
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-6)  # the policy begins as its reference
    assert rows[1]["kl"] != 0  # no step is sampled to learn nothing
    assert {"reward_before", "reward_diff_se", "kl", "length_after"} <= artifact.metrics.keys()
    assert artifact.metrics["win_rate_unmeasured"] == 2  # no row has a reference to match
    compared = [json.loads(line) for line in (tmp_path / "a/compared.jsonl").open()]
    assert len(compared) == 2 and any(row["after"] != row["before"] for row in compared)
    run(asks, tmp_path / "b")
    name = "model/model.safetensors"
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"rows": 4}, "answers.rows counts what answers.judge compares"),
        ({"rows": 4, "max_tokens": 9, "judge": {"kind": "match"}}, "objective.max_new_tokens"),
    ],
)
def test_what_would_not_be_read_is_refused(answers: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        made(Path("model"), Path("rows"), answers=answers)


@pytest.mark.parametrize(
    ("optimizer", "kind"),
    [("adamw", "AdamW"), ("adafactor", "Adafactor"), ("sgd", "SGD"), ("muon", "MuonWithAdamW")],
)
def test_the_optimizer_is_the_recipes(optimizer: str, kind: str, tmp_path: Path) -> None:
    from llmctl.training.ppo import watch

    asks = made(Path("model"), Path("rows"), optimizer=optimizer, weight_decay=0.5)
    actor = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    actor[0].requires_grad_(False)
    found = learner.optimizer_of(asks, watch.settings(asks, tmp_path), actor)
    assert type(found).__name__ == kind
    trained = [each for group in found.param_groups for each in group["params"]]
    assert {id(each) for each in trained} == {id(each) for each in actor[1].parameters()}
    assert {(g["lr"], g["weight_decay"]) for g in found.param_groups} == {(3e-3, 0.5)}


@pytest.mark.parametrize("warmup", [2, 0.5])
def test_the_warmup_is_counted_in_steps_and_spread_over_their_updates(warmup: float) -> None:
    """Two of four steps, each of 2 passes over 8 answers in batches of 4, are 8 updates."""
    asks = made(Path("model"), Path("rows"), warmup=warmup, scheduler="constant_with_warmup")
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = learner.schedule(asks, asks.objective, optimizer, total=4)
    rates = []
    for _ in range(16):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == [at / 8 for at in range(8)] + [1.0] * 8


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimizer: str
) -> None:
    keys = {"objective": {"target_kl": 1.0, "horizon": 50}, "optimizer": optimizer}
    asks = made(letters, asked(tmp_path), **keys)
    run(asks, tmp_path / "whole")
    kept = state.save

    def dies(folder: Path, step: int, what: dict[str, Any]) -> None:
        kept(folder, step, what)
        raise KeyboardInterrupt

    monkeypatch.setattr(state, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        run(asks, tmp_path / "killed")
    monkeypatch.setattr(state, "save", kept)
    run(asks, tmp_path / "killed")
    curves = [
        [
            {k: v for k, v in json.loads(line).items() if k not in ("seconds", "memory_gb")}
            for line in (tmp_path / name / "metrics.jsonl").open()
        ]
        for name in ("whole", "killed")
    ]
    assert curves[0] == curves[1]
    assert curves[0][-1]["beta"] != 0.02
    name = "model/model.safetensors"
    assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes()


def test_a_broken_checkpoint_is_told_and_passed_over(tmp_path: Path, capsys: Any) -> None:
    for step in (1, 2, 3):
        state.save(tmp_path, step, {"step": step, "weights": {"a": torch.ones(99)}})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-2", "checkpoint-3"]
    file = tmp_path / "checkpoint-3" / "state.pt"
    os.truncate(file, file.stat().st_size - 40)
    found = state.newest(tmp_path)
    assert found is not None and found["step"] == 2
    assert "warning: checkpoint-3 is not whole (state.pt has" in capsys.readouterr().err
    assert not file.exists()


@pytest.mark.parametrize("kind", ["ppo", "grpo"])
def test_a_policy_learns_to_earn_more(letters: Path, tmp_path: Path, kind: str) -> None:
    """A vowel in four letters: from one answer in six to most of them, on held-out prompts."""
    file = tmp_path / "prompts.jsonl"
    pairs = [f"say {a}{b}" for a in "abcdefgh" for b in "ijklmnop"]
    rows = [{"prompt": [{"role": "user", "content": text}]} for text in pairs]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    own = {"rollouts": 32, "passes": 2} if kind == "ppo" else {"generations": 8}
    paid = [{"kind": "regex", "pattern": "[aeiou]"}]
    size = {"batch_size": 16} if kind == "ppo" else {"batch_size": 32, "gradient_accumulation": 1}
    asks = recipe(
        "dpo", letters, file, method="full", max_steps=15, learning_rate=5e-3, beta=0.01,
        scheduler="constant", data={"hold_out": 0.5, "eval_rows": 32}, **size,
        objective={"kind": kind, "max_new_tokens": 4, "rewards": paid, **own},
    )  # fmt: skip
    if kind == "ppo":
        asks = asks.model_copy(update={"save_every": 100})
    found = run(asks, tmp_path / "out").metrics
    assert found["reward_diff"] > 0.2 + 2 * found["reward_diff_se"]
    assert found["kl"] > 0
    page = (tmp_path / "out/report.html").read_text()
    for curve in ("Reward of the sampled", "KL to where", "Length of the sampled", "Entropy of"):
        assert curve in page


def test_a_tracker_has_what_metrics_jsonl_has(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    asks = made(letters, asked(tmp_path), max_steps=2, tracking=["tensorboard"])
    rows = log(run(asks, tmp_path / "a"))
    events = EventAccumulator(str(tmp_path / "a/tracking/tensorboard")).Reload()
    for key in ("reward", "kl", "loss"):
        tracked = [each.value for each in events.Scalars(f"train/{key}")]
        assert tracked == pytest.approx([row[key] for row in rows], abs=1e-5)


def test_a_jump_is_an_alarm_as_in_every_training(tmp_path: Path, capsys: Any) -> None:
    from llmctl.training.ppo import watch

    def steps(loss: float, **keys: Any) -> list[dict[str, Any]]:
        asks, kept = made(Path("model"), Path("rows"), **keys), list[dict[str, Any]]()
        args = watch.settings(asks, tmp_path)
        with watch.watching(asks, args, None, tmp_path / "metrics.jsonl", kept, 12) as found:
            for step in range(1, 13):
                row = {"step": step, "loss": loss if step == 12 else 0.1, "grad_norm": 1.0}
                found.step(row)
        return kept

    assert "alarm" not in steps(0.1)[-1]
    assert steps(9.0)[-1]["alarm"] == ["loss"]
    assert "step 12: loss 9 (usually 0.1)" in capsys.readouterr().err
    with pytest.raises(LlmctlError, match="stop_on_spike"):
        steps(9.0, stop_on_spike=True)
    with pytest.raises(LlmctlError, match="step 12: the loss is nan; lower learning_rate"):
        steps(math.nan)


@pytest.mark.parametrize("limit", [{"stop_kl": 1e-7}, {"stop_length": 1.0001}])
def test_what_runs_away_ends_the_run(
    letters: Path, tmp_path: Path, limit: dict[str, float]
) -> None:
    asks = made(letters, asked(tmp_path), objective=limit, max_steps=6)
    artifact = run(asks, tmp_path / "a")
    assert artifact.metrics["steps"] < 6
    assert next(iter(limit)) in dict(artifact.summary)["stopped early"]
