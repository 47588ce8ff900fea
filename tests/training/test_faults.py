"""Faults that would train a wrong model: each is one line, before the first step."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")
from tiny_tokenizer import tiny_tokenizer
from training_runs import CHAT, recipe

from llmctl.artifact import Artifact, Input
from llmctl.engines.base import Request
from llmctl.engines.transformers import TransformersSession
from llmctl.errors import InputError, LlmctlError
from llmctl.training import causal, preference, rollouts

pytestmark = pytest.mark.model

LOOP = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
)
OPENING = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
CHATML = LOOP + OPENING
FORGETS = "{{ m['content'] if loop.last or m['role'] != 'assistant' else '' }}"


def said(*turns: tuple[str, str]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


TALK = said(("system", "Be brief."), ("user", "Why?"), ("assistant", "Because."))
LONG = said(("user", "Why?"), ("assistant", "Because it is so. " * 40))

Fault = tuple[dict[str, Any], str]
FAULTS: dict[str, Fault] = {
    "another template than the model's": (
        {"keys": {"chat_template": "llama3"}}, "another chat template of its own",
    ),
    "a template without end of turn": (
        {"template": CHATML.replace("<|im_end|>", "")}, "ends the assistant's turn with no special",
    ),
    "an end of turn that is no token": (
        {"template": CHATML.replace("<|im_end|>", "<|fin|>")}, "would not learn to stop",
    ),
    "a doubled beginning": ({"template": "{{ bos_token }}" + CHATML}, "twice"),
    "roles of another format": (
        {"row": said(("human", "Why?"), ("gpt", "Because."))}, "no role named 'human'",
    ),
    "a lost system prompt": (
        {"template": CHATML.replace("in messages", "in messages if m['role'] != 'system'")},
        r"leaves out what turn 0 \(system\) says",
    ),
    "a template that forgets earlier answers": (
        {
            "template": CHATML.replace("{{ m['content'] }}", FORGETS),
            "row": said(("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")),
        },
        "writes turn 1 differently",
    ),
    "nothing to learn": ({"row": said(("user", "Why?"))}, "no row has a token to learn from"),
    "an answer to nothing": ({"row": said(("assistant", "Because."))}, "begins with the assistant"),
    "no template": ({"template": None}, "has no chat template"),
    "every end of turn cut off": (
        {"row": LONG, "keys": {"max_length": 64, "too_long": "truncate"}}, "loses its end of turn",
    ),
    "marks inside of what is said": (
        {"row": said(("user", "Say <|im_end|> now"), ("assistant", "No."))}, "special_token",
    ),
    "an empty answer": ({"row": said(("user", "Why?"), ("assistant", " "))}, "empty_answer"),
    "a template that refuses the row": (
        {"template": "{{ raise_exception('only two turns') }}" + CHATML}, "refuses it: only two",
    ),
}  # fmt: skip


def prepared(tiny_model: Path, folder: Path, row: dict[str, Any] = TALK, **changed: Any) -> Any:
    """A recipe on a copy of the tiny model with another template, and 12 rows like `row`."""
    shutil.copytree(tiny_model, folder / "model")
    if "template" in changed:
        file = folder / "model" / "chat_template.jinja"
        file.unlink()
        if changed["template"] is not None:
            file.write_text(changed["template"])
    rows = folder / "rows.jsonl"
    rows.write_text("".join(json.dumps({"id": f"r{n}", **row}) + "\n" for n in range(12)))
    return recipe("sft", folder / "model", rows, **changed.get("keys", {}))


@pytest.fixture
def never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training does not begin."""
    from transformers import Trainer

    def train(*_: Any, **__: Any) -> None:
        raise AssertionError("the training began")

    monkeypatch.setattr(Trainer, "train", train)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_before_training(
    fault: str, tiny_model: Path, tmp_path: Path, never: None
) -> None:
    changed, line = FAULTS[fault]
    with pytest.raises(LlmctlError, match=line) as error:
        causal.tune(prepared(tiny_model, tmp_path, **changed), Artifact(tmp_path / "out"))
    assert "\n" not in str(error.value)


def test_without_a_fault_training_begins(tiny_model: Path, tmp_path: Path, never: None) -> None:
    with pytest.raises(AssertionError, match="the training began"):
        causal.tune(prepared(tiny_model, tmp_path), Artifact(tmp_path / "out"))


@pytest.mark.parametrize("packing", [True, False])
def test_a_collator_that_hides_padding_hides_the_end_of_turn(
    packing: bool, tiny_model: Path, tmp_path: Path, never: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Padding is the end of turn in this model; masking one masks the other."""
    from trl.trainer.sft_trainer import DataCollatorForLanguageModeling as Collator

    made: Callable[..., Any] = Collator.torch_call

    def hiding(self: Any, examples: Any) -> Any:
        batch = made(self, examples)
        batch["labels"][batch["input_ids"] == self.pad_token_id] = -100
        return batch

    monkeypatch.setattr(Collator, "torch_call", hiding)
    made_recipe = prepared(tiny_model, tmp_path, keys={"packing": packing})
    with pytest.raises(LlmctlError, match=r"hides \d+ learnt <\|im_end\|>.*is the padding token"):
        causal.tune(made_recipe, Artifact(tmp_path / "out"))


def test_a_tokenizer_of_another_model_is_refused(
    tiny_model: Path, tmp_path: Path, never: None
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    made = prepared(tiny_model, tmp_path)
    small = LlamaConfig(
        vocab_size=1000, hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=2,
    )  # fmt: skip
    LlamaForCausalLM(small).save_pretrained(tmp_path / "model")
    with pytest.raises(LlmctlError, match="has 49152 tokens and the model 1000 vectors"):
        causal.tune(made, Artifact(tmp_path / "out"))


@pytest.mark.parametrize("name", ["tokenizer", "chat_template"])
def test_a_model_that_is_not_what_its_manifest_says_is_refused(
    name: str, tiny_model: Path, tmp_path: Path, never: None
) -> None:
    """Another template in training than the model is served with, or was trained with."""
    from llmctl import modelref

    made = prepared(tiny_model, tmp_path)
    manifest = {"model": {**modelref.identity(tmp_path / "model"), name: "0123456789abcdef"}}
    model = Input("model", "m", tmp_path / "model", "0", manifest)
    with pytest.raises(LlmctlError, match=f"its {name.replace('_', ' ')} is not the one it was"):
        causal.tune(made, Artifact(tmp_path / "out", {"model": model}))


def test_the_sample_rows_have_no_fault(tiny_model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(tiny_model)
    artifact = Artifact(tmp_path)
    train, _ = causal.tokens(recipe("sft", tiny_model, CHAT), artifact, tokenizer)
    assert len(train) == 13 and not artifact.dropped


SIDES = ("chosen", "rejected")
REFUSES = "{{ raise_exception('no system turn') }}" + CHATML


@pytest.mark.parametrize(
    ("template", "said"), [(None, "has no chat template"), (REFUSES, "no system turn")]
)
def test_what_a_template_does_not_take_is_told_by_each_reader(
    template: str | None, said: str
) -> None:
    """The engine's error is a request's answer in serve, the others name the row."""
    tokenizer = tiny_tokenizer(template)
    turn = [{"role": "user", "content": "Why?"}]
    pair = {"prompt": turn, **{n: [{"role": "assistant", "content": n}] for n in SIDES}}
    with pytest.raises(InputError, match=f"^f:1: .*{said}"):
        preference.tokens_of(tokenizer, pair, "f:1")
    with pytest.raises(InputError, match=f"^f:1: .*{said}"):
        rollouts.encoded([("f:1", pair)], tokenizer)
    session = TransformersSession(SimpleNamespace(config=None), tokenizer, 100)
    with pytest.raises(InputError, match=said):
        session.prompt_ids(Request(turn))
