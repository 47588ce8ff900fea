"""Where each key of a dpo recipe lands."""

from __future__ import annotations

import json
from contextlib import ExitStack, nullcontext
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock, patch

spec = spec_from_file_location("reach_sft", Path(__file__).with_name("reach_sft.py"))
assert spec is not None and spec.loader is not None
sft = module_from_spec(spec)
spec.loader.exec_module(sft)

BASE: dict[str, Any] = {
    "model": "some/model",
    "data": {"train": "pairs"},
    **sft.LOOP,
}


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    from llmctl.training import config, direct_config, regression

    if recipe.objective.kind != "direct":
        return objective(recipe, tmp_path)
    args = direct_config.config_of(recipe, tmp_path)
    built: SimpleNamespace = sft.settings(
        recipe, args, config.adapter_of(recipe, Path("base")), tmp_path
    )
    built.said, built.refused = told(recipe, tmp_path)
    built.answers = answered(recipe, tmp_path)
    if recipe.regression.tasks:
        built.regression = regression.asked(recipe, tmp_path)
    return built


def answered(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    """(prompts, longest answer, win rate) of the answers before and after; samples are made up."""
    from tiny_tokenizer import tiny_tokenizer

    from llmctl.artifact import Artifact
    from llmctl.training import drift, measure, outcome, rollouts

    found = SimpleNamespace(prompts=0, most=0)

    def sample(_: Any, __: Any, prompts: Any, most: int, *rest: Any) -> Any:
        found.prompts, found.most = len(prompts), most
        return [[5, 6, 7]] * len(prompts)

    rows = [
        ("a:1", {"prompt": [{"role": "user", "content": str(number)}], "reference": "x"})
        for number in range(9)
    ]
    artifact = Artifact(tmp_path / "answers")
    with (
        patch.object(rollouts, "sample", sample),
        patch.object(outcome, "kl", lambda *_: measure.mean([0.0, 0.0])),
    ):
        asked = drift.Drift(recipe, artifact, tiny_tokenizer(), rows)
        asked.before(None)
        asked.after(None, lambda: None)
    found.won = artifact.metrics.get("win_rate")
    return found


def objective(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    """The settings of what is no direct objective, and what its own parts do."""
    from llmctl.judges.base import Answered
    from llmctl.training import groups, pair_checks, reward_model, rollouts

    chosen = recipe.objective
    built = SimpleNamespace(recipe=recipe, objective=chosen, kind=chosen.kind)
    if chosen.kind == "reward":
        built.args = reward_model.settings(recipe, chosen, tmp_path)
        pair = SimpleNamespace(id="x", prompt=[1], chosen=[2], rejected=[3])
        row = {"meta": {"scores": {"chosen": 3.0, "rejected": 1.0}}}
        found = SimpleNamespace(train=[pair], rows={"x": row}, places={"x": "a:1"})
        built.columns = reward_model.columns(found, chosen, 9)
        assert pair_checks.score_margin(row, "a:1") == 2.0
        return built
    built.weights = [reward.weight for reward in chosen.rewards]
    with rollouts.rating(chosen.rewards, tmp_path) as rates:
        asked = [{"role": "user", "content": "b"}]
        built.rated = [rate([Answered("x", asked, "one two", "one")])[0] for rate in rates]
    built.runaway = rollouts.Runaway(chosen.stop_kl, chosen.stop_length)
    if chosen.kind == "ppo":
        built.step = stepped(recipe)
        return built
    built.args = groups.settings(recipe, chosen, tmp_path)
    built.runaway = groups.Stop(chosen).runaway
    return built


def stepped(recipe: Any) -> SimpleNamespace:
    """What a step of PPO hands to its formulas; the model's numbers are made up."""
    import torch
    from tiny_tokenizer import tiny_tokenizer

    from llmctl.training import rollouts
    from llmctl.training.ppo import loop
    from llmctl.training.ppo.learner import Learner
    from llmctl.training.rollouts import Prompt

    def forward(part: Any, heat: float) -> Any:
        ones = torch.ones_like(part.mask)
        return 0.7 * ones, 1.4 * ones, ones

    def sample(_: Any, __: Any, prompts: Any, most: int, heat: float, seed: int) -> Any:
        found.asked, found.most, found.heat = len(prompts), most, heat
        return [[5, 6, 7]] * len(prompts)

    def seen(_: Any, tokens: Any, *__: Any) -> Any:
        return 0 * tokens.mask, 0.2 * tokens.mask, tokens.mask

    accelerator = SimpleNamespace(
        device="cpu",
        autocast=nullcontext,
        backward=Mock(),
        clip_grad_norm_=lambda *_: torch.tensor(1.0),
    )
    optimizer = SimpleNamespace(step=Mock(), zero_grad=Mock(), param_groups=[{"lr": 1e-3}])
    actor = Mock(side_effect=forward)
    prompts = [Prompt("x", [{"role": "user", "content": "a"}], [3, 4], {})]
    found = SimpleNamespace(penalty=loop.penalty_of(recipe, recipe.objective))
    with ExitStack() as stack:
        rates = stack.enter_context(rollouts.rating(recipe.objective.rewards, Path("unused")))
        run = loop.Run(
            recipe, recipe.objective, actor, actor, tiny_tokenizer(), prompts, rates, Path("unused")
        )
        stack.enter_context(patch.object(rollouts, "sample", sample))
        stack.enter_context(patch.object(loop, "looked_at", seen))
        names = ((loop, "gae"), (loop, "whiten"), (loop.losses, "policy_loss"),
                 (loop.losses, "value_loss"))  # fmt: skip
        for where, name in names:
            spy = Mock(wraps=getattr(where, name))
            setattr(found, name, stack.enter_context(patch.object(where, name, spy)))
        learner = Learner(accelerator, actor, optimizer, scheduler=Mock())
        found.row = loop._step(run, learner, found.penalty, 0)
    row = found.row
    rest = row["loss"] - row["policy_loss"]
    found.value_weight = round(rest / row["value_loss"], 5)
    found.entropy = round(rest - 0.1 * row["value_loss"], 5)
    return found


def told(recipe: Any, tmp_path: Path) -> tuple[list[str], str]:
    """(warnings, refusal) about pairs whose better answers are four times longer."""
    from tiny_tokenizer import tiny_tokenizer

    from llmctl.artifact import Artifact
    from llmctl.errors import InputError
    from llmctl.training import preference_rows, swapped

    rows = [
        {
            "prompt": [{"role": "user", "content": f"{number}"}],
            "chosen": [{"role": "assistant", "content": "four times longer " * 8}],
            "rejected": [{"role": "assistant", "content": "short"}],
        }
        for number in range(12)
    ]
    file = tmp_path / "pairs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = recipe.data.model_copy(update={"train": file, "validation": None})
    changed = recipe.model_copy(update={"data": data, "loss": "sigmoid", "max_length": 512})
    said: list[str] = []
    with patch("llmctl.ui.warn", said.append):
        try:
            found = preference_rows.read(changed, Artifact(tmp_path / "read"), tiny_tokenizer())
            if recipe.checks.judge is not None:
                judge, most = recipe.checks.judge, recipe.checks.judge_rows
                with patch.object(swapped, "judged", lambda at, _: f"{judge.kind} of {len(at)}"):
                    said.append(swapped.check_by_judge(judge, most, found, 0, tmp_path / "c"))
            if recipe.checks.likelihood:
                found.held_places = ["a row"] * 10
                against = [(-9.0, 2, -2.0, 2)] * 10
                said.append(swapped.warn_by_likelihood(found, against))
        except InputError as error:
            return said, str(error)
    return said, ""


def words(built: SimpleNamespace, part: str) -> bool:
    return any(part in line for line in built.said)


SOME = {"rewards": [{"kind": "regex", "pattern": "one"}]}
KINDS = sft.KINDS | {
    "objective[grpo]": SOME | {"generations": 4},
    "objective[rloo]": SOME | {"generations": 4},
    "objective[ppo]": SOME,
    "objective[grpo].rewards[judge]": {"judge": {"kind": "match", "rule": "contains"}},
    "objective[grpo].rewards[python]": {"function": "own_rewards:words"},
    "objective[grpo].rewards[regex]": {"pattern": "one"},
}
AROUND: dict[str, dict[str, Any]] = {
    **{key: sft.AROUND[key] for key in ("qlora", "replace_template", "launch")},
    "label_smoothing": {"loss": "robust"},
    "gamma": {"loss": "simpo"},
    "answers": {"answers": {"rows": 3}},
    "checks": {"checks": {"judge": {"kind": "match"}}},
    "regression": {"regression": {"tasks": [{"kind": "choice", "data": "a"}]}},
    "alpha": {"loss": "alphapo", "alpha": 0.2},
    "divergence_alpha": {"divergence": "alpha_divergence"},
    "tau": {"loss": "discopop"},
    "reference_sync": {"method": "full"},
    "desirable_weight": {"loss": "kto", "batch_size": 2},
    "undesirable_weight": {"loss": "kto", "batch_size": 2},
}
for name in ("objective", *(f"objective[{kind}]" for kind in ("reward", "grpo", "rloo"))):
    AROUND[name] = {"batch_size": 8, "gradient_accumulation": 1, "eval_every": None}
AROUND["objective[grpo].level"] = AROUND["objective[grpo]"] | {
    "objective": {"kind": "grpo", "variant": "grpo", "generations": 4, **SOME}
}
AROUND["objective"]["objective"] = {"kind": "grpo", "generations": 4, **SOME}
AROUND["objective[ppo]"] = {"batch_size": 8, "eval_every": None}
ROWS = sft.SHARED | {
    "method": ("qlora", lambda built: built.bits.load_in_4bit, True),
    "loss": ("ipo", lambda built: built.args.loss_type, ["ipo"]),
    "beta": (0.3, lambda built: built.args.beta),
    "label_smoothing": (0.1, lambda built: built.args.label_smoothing),
    "gamma": (0.9, lambda built: built.args.simpo_gamma),
    "alpha": (0.7, lambda built: built.args.alpha),
    "desirable_weight": (1.3, lambda built: built.args.desirable_weight),
    "undesirable_weight": (1.3, lambda built: built.args.undesirable_weight),
    "reference_sync.every": (9, lambda built: built.args.ref_model_sync_steps),
    "reference_sync.share": (0.9, lambda built: built.args.ref_model_mixup_alpha),
    "precompute_reference": (True, lambda built: built.args.precompute_ref_log_probs),
    "divergence": ("forward_kl", lambda built: built.args.f_divergence_type),
    "divergence_alpha": (0.7, lambda built: built.args.f_alpha_divergence_coef),
    "tau": (0.1, lambda built: built.args.discopop_tau),
    "ld_alpha": (0.4, lambda built: built.args.ld_alpha),
    "sft_weight": (0.5, lambda built: built.args.loss_weights, [1.0, 0.5]),
    "more_losses": (
        {"bco_pair": 0.25},
        lambda built: dict(zip(built.args.loss_type, built.args.loss_weights, strict=True)),
        {"sigmoid": 1.0, "bco_pair": 0.25},
    ),
    "weigh_by_policy": (True, lambda built: built.args.use_weighting),
    "checks.length_ratio": (50, lambda built: words(built, "times longer"), False),
    "checks.refuse_length": (True, lambda built: "times longer" in built.refused, True),
    "checks.likelihood": (True, lambda built: words(built, "finds the rejected"), True),
    "checks.judge": (
        {"kind": "jury", "judges": [{"kind": "match"}, {"kind": "match", "rule": "contains"}]},
        lambda built: words(built, "jury of"),
        True,
    ),
    "checks.judge_rows": (3, lambda built: words(built, "match of 3"), True),
    "answers.rows": (5, lambda built: built.answers.prompts),
    "answers.max_tokens": (9, lambda built: built.answers.most),
    "answers.judge": ({"kind": "match"}, lambda built: built.answers.won, 0.5),
    "regression.tasks": (
        [{"kind": "loss", "data": "a"}],
        lambda b: b.regression.tasks[0].kind,
        "loss",
    ),
    "regression.limit": (7, lambda built: built.regression.limit),
    "objective": ("reward", lambda built: built.kind),
    "objective[reward].margin": ("scores", lambda built: built.columns[0].get("margin"), 2.0),
    "objective[reward].center": (0.02, lambda built: built.args.center_rewards_coefficient),
    "objective[grpo].rewards[judge].judge": (
        {"kind": "match", "rule": "exact"},
        lambda built: built.rated,
        [0.0],
    ),
    "objective[grpo].rewards[judge].weight": (2.0, lambda built: built.weights, [2.0]),
    "objective[grpo].rewards[length].weight": (2.0, lambda built: built.weights, [2.0]),
    "objective[grpo].rewards[length].least": (4, lambda built: built.rated, [-0.5]),
    "objective[grpo].rewards[length].most": (1, lambda built: built.rated, [-1.0]),
    "objective[grpo].rewards[python].weight": (2.0, lambda built: built.weights, [2.0]),
    "objective[grpo].rewards[python].function": (
        "own_rewards:letters",
        lambda built: built.rated,
        [7.0],
    ),
    "objective[grpo].rewards[regex].weight": (2.0, lambda built: built.weights, [2.0]),
    "objective[grpo].rewards[regex].pattern": ("three", lambda built: built.rated, [0.0]),
    "objective[grpo].rewards[regex].whole": (True, lambda built: built.rated, [0.0]),
}
SAMPLED: dict[str, Any] = {
    "rewards": ([{"kind": "length", "weight": 3.0}], lambda built: built.weights, [3.0]),
    "stop_kl": (0.5, lambda built: built.runaway.stop_kl),
    "stop_length": (2.0, lambda built: built.runaway.stop_length),
}
GROUPED: dict[str, Any] = SAMPLED | {
    "max_new_tokens": (9, lambda built: built.args.max_completion_length),
    "temperature": (0.7, lambda built: built.args.temperature),
    "clip": (0.3, lambda built: built.args.epsilon),
    "generations": (8, lambda built: built.args.num_generations),
    "iterations": (2, lambda built: built.args.num_iterations),
    "vllm": (True, lambda built: built.args.use_vllm),
}
ROWS |= {
    f"objective[{kind}].{key}": row for kind in ("grpo", "rloo") for key, row in GROUPED.items()
}
ROWS |= {
    "objective[grpo].variant": ("dr_grpo", lambda built: built.args.loss_type),
    "objective[grpo].clip_high": (0.28, lambda built: built.args.epsilon_high),
    "objective[grpo].level": ("sequence", lambda built: built.args.importance_sampling_level),
    "objective[grpo].scale_rewards": ("none", lambda built: built.args.scale_rewards),
    "objective[rloo].normalise": (True, lambda built: built.args.normalize_advantages),
}
STEP: dict[str, Any] = SAMPLED | {
    "max_new_tokens": (9, lambda step: step.most),
    "temperature": (0.7, lambda step: step.heat),
    "clip": (0.3, lambda step: step.policy_loss.call_args.args[-1]),
    "rollouts": (24, lambda step: step.asked),
    "passes": (3, lambda step: step.policy_loss.call_count, 6),
    "discount": (0.9, lambda step: step.gae.call_args.args[-2]),
    "trace": (0.5, lambda step: step.gae.call_args.args[-1]),
    "whiten": (False, lambda step: step.whiten.called),
    "value_clip": (0.4, lambda step: step.value_loss.call_args.args[-1]),
    "value_weight": (0.3, lambda step: step.value_weight),
    "entropy_weight": (0.02, lambda step: step.entropy, -0.02),
    "target_kl": (3.0, lambda step: step.penalty.target),
    "horizon": (77, lambda step: step.penalty.horizon),
}


def of_step(row: Any) -> Any:
    value, where, *expected = row
    return (value, lambda built: where(built.step), *expected)


ROWS |= {f"objective[ppo].{key}": row for key, row in SAMPLED.items()}
ROWS |= {f"objective[ppo].{key}": of_step(STEP[key]) for key in STEP if key not in SAMPLED}
