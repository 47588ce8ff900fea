"""An adapter on its base answers as PEFT does, soft prompts too; what cannot be is one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")
from tiny_tokenizer import tiny_llama

from llmctl import digest, modelref
from llmctl.artifact import SCHEMA
from llmctl.engines.base import Engine
from llmctl.engines.transformers import TransformersSession, adapter_of
from llmctl.errors import InputError
from llmctl.training import attach

pytestmark = pytest.mark.model

QUESTION = [{"role": "user", "content": "What is a pump?"}]


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model whose layers say more than the last token: its answers are not one letter."""
    from transformers import AutoModelForCausalLM

    folder = tiny_llama(tmp_path_factory.mktemp("letters"))
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "proj" in name:
                weight *= 10
    model.save_pretrained(folder)
    return folder


def shape(kind: str) -> Any:
    """PEFT's settings of a small adapter."""
    if kind == "prompt":
        return peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    if kind == "prefix":
        return peft.PrefixTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=5)
    names = ["k_proj", "down_proj"]
    if kind == "ia3":
        return peft.IA3Config(
            task_type="CAUSAL_LM", target_modules=names, feedforward_modules=names[1:]
        )
    return peft.LoraConfig(task_type="CAUSAL_LM", r=4, target_modules=names)


def adapter(base: Path, kind: str, folder: Path) -> Any:
    """A random adapter, saved; the model with it."""
    from transformers import AutoModelForCausalLM

    torch.manual_seed(1)
    model = peft.get_peft_model(AutoModelForCausalLM.from_pretrained(base), shape(kind))
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.copy_((20 if attach.is_soft(model) else 1) * torch.randn_like(weight))
    model.save_pretrained(folder)
    return model.eval()


def whole_each_time(model: Any, ids: list[int], count: int) -> list[int]:
    """The likeliest tokens, without a cache: each from all before it."""
    found: list[int] = []
    with torch.inference_mode():
        for _ in range(count):
            logits = model(input_ids=torch.tensor([ids + found]), use_cache=False).logits
            found.append(int(logits[0, -1].argmax()))
    return found


@pytest.mark.parametrize("kind", ["prompt", "prefix", "ia3", "lora"])
def test_an_adapter_answers_as_peft_does(letters: Path, tmp_path: Path, kind: str) -> None:
    wanted = adapter(letters, kind, tmp_path)
    asked = {"kind": "transformers", "model": str(letters)}
    pair = ("The pump ", "stands.")
    with Engine.of(asked).open() as plain:
        without = plain.logprobs([pair])
        names, rows = [plain.name], [plain.weights[:16]]
    with Engine.of({**asked, "adapter": str(tmp_path)}).open() as session:
        assert isinstance(session, TransformersSession)
        found = session.chat(QUESTION, max_tokens=8).text, session.logprobs([pair])
        names.append(session.name)
        rows.append(session.weights[:16])
        encoded = session.tokenizer.apply_chat_template(
            QUESTION, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        ids = session.tokenizer("".join(pair), return_tensors="pt").input_ids
    assert found[1] != without
    assert len(set(names)) == 2, "the cache of replies must tell them apart"
    assert len(set(rows)) == 2, "and so must `meta.generator` of a row, which has so many digits"
    new = whole_each_time(wanted, encoded["input_ids"][0].tolist(), 8)
    assert session.tokenizer.decode(new) == found[0]
    if attach.is_soft(wanted):
        assert attach.likeliest(wanted, encoded["input_ids"][0].tolist(), 8, set()) == new
    with torch.inference_mode():
        logits = wanted(input_ids=ids).logits[0, -ids.shape[1] : -1]
    each = torch.log_softmax(logits, -1).gather(1, ids[0, 1:, None])[:, 0]
    assert found[1][0] == pytest.approx(each[-len(found[1][0]) :].tolist(), abs=1e-5)


def test_a_soft_prompt_is_no_model(letters: Path, tmp_path: Path) -> None:
    adapter(letters, "prompt", tmp_path)
    with pytest.raises(InputError, match="kind PROMPT_TUNING, no part of any weight; write engine"):
        modelref.locate(str(tmp_path))
    adapter(letters, "lora", tmp_path / "lora")
    with pytest.raises(InputError, match="is an adapter, no model; give the merged"):
        modelref.locate(str(tmp_path / "lora"))


@pytest.mark.parametrize(
    ("method", "sha256", "said"),
    [
        ("prompt", "another", "was trained on other-base, which is not"),
        ("qlora", None, "on a base of four bits; give the artifact as `model`"),
    ],
)
def test_an_adapter_of_something_else_is_refused(
    letters: Path, tmp_path: Path, method: str, sha256: str | None, said: str
) -> None:
    adapter(letters, "lora", tmp_path / "adapter")
    inputs = {"model": {"ref": "other-base", "sha256": sha256 or digest.of_path(letters)}}
    manifest = {"schema": SCHEMA, "recipe": {"method": method}, "inputs": inputs}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    asked = {"kind": "transformers", "model": str(letters), "adapter": str(tmp_path)}
    with pytest.raises(InputError, match=said) as error, Engine.of(asked).open():
        pass
    assert "\n" not in str(error.value)


def test_an_adapter_of_a_model_of_the_hub_is_used_on_it(
    letters: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The manifest has the digest of the files that the hub's name stands for."""
    monkeypatch.setattr(modelref, "_from_hub", lambda _: letters)
    adapter(letters, "lora", tmp_path / "adapter")
    inputs = {"model": {"ref": "some/letters", "sha256": digest.of_path(letters)}}
    manifest = {"schema": SCHEMA, "recipe": {"method": "lora"}, "inputs": inputs}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert adapter_of(tmp_path, "some/letters") == tmp_path / "adapter"
