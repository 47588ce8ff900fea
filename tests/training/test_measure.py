"""Means with errors, and checkpoints that are not whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from safetensors.torch import save_file

from llmctl.training import checkpoints, measure
from llmctl.training.measure import mean, ratio


def test_a_mean_has_the_error_of_the_textbook() -> None:
    found = mean([1.0, 2.0, 3.0, 4.0])
    assert found.value == 2.5
    assert found.error == pytest.approx((5 / 3) ** 0.5 / 2)  # sd / sqrt(n)


def test_a_ratio_of_equal_weights_is_a_mean() -> None:
    values = [1.0, 2.0, 3.0, 5.0]
    assert ratio([2 * v for v in values], [2] * 4).error == pytest.approx(mean(values).error)


def checkpoint(folder: Path, step: int) -> Path:
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        torch.save({"a": torch.zeros(3)}, path / name)
    save_file({"a": torch.zeros(3)}, path / "adapter_model.safetensors")
    checkpoints.seal(path)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "trainer_state.json",
        "optimizer.pt",
        "rng_state.pth",
        "adapter_model.safetensors",
    ],
)
@pytest.mark.parametrize("how", ["missing", "half", "empty"])
def test_a_broken_checkpoint_is_passed_over(
    tmp_path: Path, name: str, how: str, capsys: pytest.CaptureFixture[str]
) -> None:
    older, newer = checkpoint(tmp_path, 9), checkpoint(tmp_path, 10)
    assert checkpoints.newest(tmp_path) == newer
    content = (newer / name).read_bytes()
    (newer / name).unlink()
    if how != "missing":
        (newer / name).write_bytes(content[: len(content) // 2] if how == "half" else b"")
    assert checkpoints.newest(tmp_path) == older
    assert "checkpoint-10 is not whole" in capsys.readouterr().err
    assert not newer.exists()


def llama(**keys: Any) -> Any:
    from transformers import MistralConfig, MistralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    return MistralForCausalLM(MistralConfig(vocab_size=90, **sizes, **heads, **keys))


def bloom() -> Any:
    from transformers import BloomConfig, BloomForCausalLM

    return BloomForCausalLM(BloomConfig(vocab_size=90, hidden_size=32, n_layer=2, n_head=2))


def mamba() -> Any:
    from transformers import MambaConfig, MambaForCausalLM

    return MambaForCausalLM(MambaConfig(vocab_size=90, hidden_size=32, num_hidden_layers=2))


def adapted(kind: str, **keys: Any) -> Any:
    import peft

    made = getattr(peft, f"{kind}Config")(task_type="CAUSAL_LM", **keys)
    return peft.get_peft_model(llama(), made)


@pytest.mark.parametrize(
    ("made", "read_once"),
    [
        (lambda: llama(sliding_window=None), True),
        (lambda: llama(sliding_window=6), True),
        (bloom, True),
        (mamba, False),
        (lambda: adapted("Lora", target_modules=["q_proj"], init_lora_weights=False), True),
        (lambda: adapted("PromptTuning", num_virtual_tokens=3), True),
        (lambda: adapted("PrefixTuning", num_virtual_tokens=3), True),
    ],
    ids=["llama", "window", "bloom", "recurrent", "lora", "soft prompt", "prefix"],
)
def test_options_get_the_same_whether_their_context_is_read_once_or_with_each(
    made: Any, read_once: bool
) -> None:
    torch.manual_seed(0)
    model = made().eval()
    context = torch.randint(90, (40,)).tolist()
    rows = []
    for size in (1, 5, 3):  # the first token of all is the same: it is a target all the same
        option = [7, *torch.randint(90, (size,)).tolist()]
        rows.append((context + option, [False] * 40 + [True] * len(option)))
    widths: list[int] = []
    model.get_input_embeddings().register_forward_hook(
        lambda module, given, out: widths.append(given[0].numel())
    )
    found = measure.score_alike(model, rows)
    assert (sum(widths) == 39 + 3 * 7) is read_once
    expected = measure.score_batch(model, rows)
    assert [count for _, count in found] == [count for _, count in expected] == [2, 6, 4]
    for (one, _), (other, _) in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_what_rows_share_ends_before_a_target() -> None:
    def of(*rows: str) -> int:
        """Capitals are targets."""
        return measure.alike([([*map(ord, r.lower())], [c.isupper() for c in r]) for r in rows])

    assert of("abcDE", "abcDF") == 2
    assert of("abcDE", "abxDE") == 2
    assert of("aBcD", "abcD") == 0
    assert of("ABC", "ABD") == 0
    assert of("abc", "abc") == 2
