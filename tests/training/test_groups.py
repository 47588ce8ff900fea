"""objectives grpo and rloo: a reward that rises, figures on the way, and a continued run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_llama
from training_runs import log, recipe, run, weights

from llmctl.errors import LlmctlError
from llmctl.training import callbacks, pair_checks, rollouts

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("letters") / "model")


def made(model: Path, folder: Path, kind: str, **keys: Any) -> Any:
    file = folder / "prompts.jsonl"
    prompts = [[{"role": "user", "content": f"say {letter}"}] for letter in "abcdefghijklmnop"]
    file.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts))
    objective = {
        "kind": kind, "generations": 4, "max_new_tokens": 6,
        "rewards": [{"kind": "regex", "pattern": "[a-m]"}, {"kind": "length", "most": 3}],
        **keys.pop("objective", {}),
    }  # fmt: skip
    base = {"max_steps": 4, "batch_size": 8, "gradient_accumulation": 1, "learning_rate": 3e-3,
            "beta": 0.02, "save_every": 2}  # fmt: skip
    return recipe("dpo", model, file, objective=objective, **{**base, **keys})


@pytest.mark.parametrize("kind", ["grpo", "rloo"])
def test_a_run_tells_reward_kl_length_and_entropy(letters: Path, tmp_path: Path, kind: str) -> None:
    artifact = run(made(letters, tmp_path, kind, max_steps=2), tmp_path / "out")
    row = log(artifact)[-1]
    wanted = {"reward", "kl", "completions/mean_length", "entropy", "rewards/regex/mean"}
    assert wanted | {"rewards/length/mean"} <= row.keys()
    for name in ("reward_before", "reward_after", "reward_diff", "length_after", "kl"):
        assert {name, f"{name}_se"} <= artifact.metrics.keys()
    assert (tmp_path / "out/model/config.json").is_file()


def test_every_variant_of_grpo_learns_in_its_own_way(letters: Path, tmp_path: Path) -> None:
    variants: list[dict[str, Any]] = [
        {"variant": "grpo"}, {"variant": "grpo", "level": "sequence"}, {"clip_high": 0.01},
        {"variant": "cispo", "clip_high": 5.0}, {"variant": "sapo"}, {"variant": "vespo"},
        {"variant": "luspo", "level": "sequence"},
    ]  # fmt: skip
    found = []
    for number, keys in enumerate(variants):
        # the second step on the same answers is the first whose ratios are not 1
        keys = {"iterations": 2, **keys}
        asks = made(letters, tmp_path, "grpo", objective=keys, max_steps=2, scheduler="constant")
        artifact = run(asks, tmp_path / str(number))
        assert artifact.metrics["kl"] > 0
        found.append(weights(artifact)[0])
    assert len(set(found)) == len(variants)


def test_a_killed_run_has_the_curve_of_one_that_was_not(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks = made(letters, tmp_path, "grpo")
    whole = log(run(asks, tmp_path / "whole"))

    class Dies(callbacks.Metrics):
        def on_save(self, *_: Any, **__: Any) -> None:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(callbacks, "Metrics", Dies)
        with pytest.raises(KeyboardInterrupt):
            run(asks, tmp_path / "killed")
    again = log(run(asks, tmp_path / "killed"))
    for name in ("loss", "reward", "kl", "entropy"):
        assert [row[name] for row in again] == pytest.approx(
            [row[name] for row in whole], abs=1e-6
        ), name


@pytest.mark.parametrize("limit", [{"stop_kl": 1e-9}, {"stop_length": 1.0001}])
def test_a_run_ends_when_kl_or_length_runs_away(
    letters: Path, tmp_path: Path, limit: dict[str, float], capsys: Any
) -> None:
    asks = made(letters, tmp_path, "grpo", objective=limit, max_steps=6)
    assert run(asks, tmp_path / "out").metrics["steps"] < 6
    assert f"({next(iter(limit))}" in capsys.readouterr().err


def test_a_prompt_that_is_no_list_of_messages_is_named() -> None:
    for prompt, said in (([], "must be a non-empty list"), (["Why?"], "prompt.0 needs `role`")):
        (found,) = pair_checks.prompt_faults({"prompt": prompt})
        assert said in found


def test_prompts_come_from_every_kind_of_row() -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    assert rollouts.asked({"messages": said})["prompt"] == said[:1]
    assert rollouts.asked({"prompt": said[:1], "chosen": []})["prompt"] == said[:1]
    assert rollouts.asked({"text": "a"})["prompt"] is None


def test_a_sum_of_rewards_leaves_out_what_is_unknown() -> None:
    from llmctl.rewards.regex import RegexReward

    two = [RegexReward(pattern="a", weight=2), RegexReward(pattern="b", weight=-1)]
    assert rollouts.total(two, [[1.0, None, None], [1.0, 1.0, None]]) == [1.0, -1.0, None]
    assert rollouts.names(two) == ["regex_1", "regex_2"]
    with pytest.raises(LlmctlError, match="no reward could be told"):
        rollouts.no_signal([None, None])
