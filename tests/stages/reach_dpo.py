"""Where each key of a dpo recipe lands."""

from __future__ import annotations

import json
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

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
    from llmctl.training import config, direct_config

    args = direct_config.config_of(recipe, tmp_path)
    built: SimpleNamespace = sft.settings(
        recipe, args, config.adapter_of(recipe, Path("base")), tmp_path
    )
    built.said, built.refused = told(recipe, tmp_path)
    return built


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
            if recipe.checks.likelihood:
                found.held_places = ["a row"] * 10
                against = [(-9.0, 2, -2.0, 2)] * 10
                said.append(swapped.warn_by_likelihood(found, against))
        except InputError as error:
            return said, str(error)
    return said, ""


def words(built: SimpleNamespace, part: str) -> bool:
    return any(part in line for line in built.said)


KINDS = sft.KINDS
AROUND: dict[str, dict[str, Any]] = {
    **{key: sft.AROUND[key] for key in ("qlora", "replace_template", "launch")},
    "label_smoothing": {"loss": "robust"},
    "gamma": {"loss": "simpo"},
    "alpha": {"loss": "alphapo", "alpha": 0.2},
    "reference_sync": {"method": "full"},
    "desirable_weight": {"loss": "kto", "batch_size": 2},
    "undesirable_weight": {"loss": "kto", "batch_size": 2},
}
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
    "ld_alpha": (0.4, lambda built: built.args.ld_alpha),
    "sft_weight": (0.5, lambda built: built.args.loss_weights, [1.0, 0.5]),
    "weigh_by_policy": (True, lambda built: built.args.use_weighting),
    "checks.length_ratio": (50, lambda built: words(built, "times longer"), False),
    "checks.refuse_length": (True, lambda built: "times longer" in built.refused, True),
    "checks.likelihood": (True, lambda built: words(built, "finds the rejected"), True),
}
