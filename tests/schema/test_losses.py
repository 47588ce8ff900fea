"""Keys that contradict each other in a dpo recipe are refused with what would do."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from llmctl.schema.dpo import DpoRecipe

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"label_smoothing": 0.1}, "no effect on loss: sigmoid; it is used by robust, cdpo"),
    ({"loss": "ipo", "gamma": 1.0}, "gamma has no effect on loss: ipo; it is used by simpo"),
    ({"loss": "simpo", "precompute_reference": True}, "precompute_reference has no effect"),
    ({"loss": "sppo_hard", "divergence": "forward_kl"}, "divergence has no effect"),
    ({"desirable_weight": 1.2}, "it is used by kto"),
    ({"loss": "exo_pair"}, "exo_pair needs label_smoothing above 0"),
    ({"loss": "alphapo"}, "alphapo needs alpha above 0"),
    ({"loss": "aot"}, "compares the pairs of a batch; set batch_size: 2"),
    ({"loss": "kto"}, "estimates KL within a batch"),
    ({"reference_sync": {"every": 9}}, "reference_sync needs a frozen copy"),
    ({"tau": 0.1}, "tau has no effect on loss: sigmoid; it is used by discopop"),
    ({"divergence_alpha": 0.2}, "says nothing without divergence: alpha_divergence"),
]
GRPO: list[tuple[dict[str, Any], str]] = [
    ({"variant": "cispo"}, "cispo needs clip_high, the largest ratio"),
    ({"variant": "cispo", "clip_high": 5, "clip": 0.1}, "clip has no effect on variant: cispo"),
    ({"variant": "sapo", "clip_high": 0.28}, "clip_high has no effect on variant: sapo"),
    ({"variant": "luspo"}, "luspo is made for level: sequence"),
    ({"variant": "dapo", "level": "sequence"}, "level: sequence is for variant: grpo, sapo, luspo"),
]


@pytest.mark.parametrize(("keys", "sentence"), WRONG)
def test_a_key_that_would_do_nothing_is_refused(keys: dict[str, Any], sentence: str) -> None:
    base = {"stage": "dpo", "out": "out", "model": "m", "data": {"train": "rows"}}
    with pytest.raises(ValidationError, match=sentence):
        DpoRecipe.model_validate(base | keys)


@pytest.mark.parametrize(("keys", "sentence"), GRPO)
def test_a_variant_of_grpo_refuses_what_it_does_not_read(
    keys: dict[str, Any], sentence: str
) -> None:
    objective = {"kind": "grpo", "rewards": [{"kind": "length", "most": 3}], **keys}
    base = {"stage": "dpo", "out": "out", "model": "m", "data": {"train": "rows"}, "batch_size": 8}
    with pytest.raises(ValidationError, match=sentence):
        DpoRecipe.model_validate(base | {"objective": objective})


def test_the_old_keys_mean_what_they_meant() -> None:
    made = DpoRecipe.model_validate(
        {"stage": "dpo", "out": "o", "model": "m", "data": {"train": "r"}, "loss": "robust",
         "label_smoothing": 0.1, "beta": 0.2, "precompute_reference": True}
    )  # fmt: skip
    assert made.method == "lora" and made.sft_weight is None
