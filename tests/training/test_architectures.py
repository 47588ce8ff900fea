"""Models that are built otherwise than Llama: an attention of their own, no positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_tokenizer
from training_runs import PAIRS, recipe, run

from llmctl.errors import LlmctlError

pytestmark = pytest.mark.model


@pytest.fixture(scope="module")
def bloom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BLOOM: it has neither torch's fused attention nor positions."""
    from transformers import BloomConfig, BloomForCausalLM

    folder = tmp_path_factory.mktemp("bloom")
    tokenizer = tiny_tokenizer()
    torch.manual_seed(0)
    config = BloomConfig(
        vocab_size=len(tokenizer), hidden_size=32, n_layer=1, n_head=2,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    BloomForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def rows(folder: Path) -> Path:
    file = folder / "rows.jsonl"
    turns = '[{"role": "user", "content": "say %d"}, {"role": "assistant", "content": "it is %d"}]'
    file.write_text("".join(f'{{"messages": {turns % (n, n)}}}\n' for n in range(12)))
    return file


def test_a_model_with_an_attention_of_its_own_is_trained(bloom: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {"max_steps": 1, "samples": {"rows": 0}}
    sft = run(recipe("sft", bloom, rows(tmp_path), packing=False, **keys), tmp_path / "sft")
    assert sft.metrics["merge_logit_error"] < 1e-3
    asks = recipe("dpo", bloom, PAIRS, objective={"kind": "reward"}, max_steps=1)
    reward = run(asks, tmp_path / "reward")
    assert reward.model is not None and reward.model["task"] == "reward"


@pytest.mark.parametrize("key", ["packing", "padding_free"])
def test_rows_are_not_laid_end_to_end_where_nothing_tells_them_apart(
    bloom: Path, tmp_path: Path, key: str
) -> None:
    keys = {"packing": False} | {key: True}
    with pytest.raises(LlmctlError, match=f"^{key}: .*; set {key}: false$"):
        run(recipe("sft", bloom, rows(tmp_path), **keys), tmp_path / "out")
