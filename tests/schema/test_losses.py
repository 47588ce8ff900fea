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
]


@pytest.mark.parametrize(("keys", "sentence"), WRONG)
def test_a_key_that_would_do_nothing_is_refused(keys: dict[str, Any], sentence: str) -> None:
    base = {"stage": "dpo", "out": "out", "model": "m", "data": {"train": "rows"}}
    with pytest.raises(ValidationError, match=sentence):
        DpoRecipe.model_validate(base | keys)


def test_the_old_keys_mean_what_they_meant() -> None:
    made = DpoRecipe.model_validate(
        {"stage": "dpo", "out": "o", "model": "m", "data": {"train": "r"}, "loss": "robust",
         "label_smoothing": 0.1, "beta": 0.2, "precompute_reference": True}
    )  # fmt: skip
    assert made.method == "lora" and made.sft_weight is None
