"""Where each key of a dpo recipe lands."""

from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import SimpleNamespace
from typing import Any

spec = spec_from_file_location("reach_sft", Path(__file__).with_name("reach_sft.py"))
assert spec is not None and spec.loader is not None
sft = module_from_spec(spec)
spec.loader.exec_module(sft)

BASE: dict[str, Any] = {
    "model": "some/model",
    "data": {"train": "pairs"},
    "loss": "robust",
    **sft.LOOP,
}


def build(recipe: Any, tmp_path: Path) -> SimpleNamespace:
    from llmctl.training import config

    args = config.dpo_config(recipe, tmp_path)
    built: SimpleNamespace = sft.settings(
        recipe, args, config.adapter_of(recipe, Path("base")), tmp_path
    )
    return built


KINDS = sft.KINDS
AROUND = {key: sft.AROUND[key] for key in ("qlora", "replace_template")}
ROWS = sft.SHARED | {
    "method": ("qlora", lambda built: built.bits.load_in_4bit, True),
    "loss": ("ipo", lambda built: built.args.loss_type, ["ipo"]),
    "beta": (0.3, lambda built: built.args.beta),
    "label_smoothing": (0.1, lambda built: built.args.label_smoothing),
    "precompute_reference": (True, lambda built: built.args.precompute_ref_log_probs),
}
