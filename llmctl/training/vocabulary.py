"""The tokenizer of a run: its chat template, and tokens that the base does not have yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AddedToken, PreTrainedTokenizerBase

from llmctl import modelref, pretrained, templates, ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError
from llmctl.schema.training import TrainingRecipe

TRAINS_TOKENS = ("full", "lora", "qlora")
"""Methods that can train the vectors of new tokens."""


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer, and the ids in it that the base model has no trained vectors for."""

    tokenizer: PreTrainedTokenizerBase
    new: tuple[int, ...] = ()


def check_identity(recipe: TrainingRecipe, source: Path, artifact: Artifact) -> None:
    """Refuse a model whose tokenizer or template is not the one that its manifest describes."""
    manifest = artifact.manifest_of("model")
    written = manifest.get("model") if manifest else None
    found = modelref.identity(source)
    for name in ("tokenizer", "chat_template"):
        if written and written.get(name) != found.get(name):
            raise InputError(
                f"model: {recipe.model}: its {name.replace('_', ' ')} is not the one it was "
                f"trained with (manifest {str(written.get(name))[:12]}, "
                f"folder {str(found.get(name))[:12]})"
            )


def of(recipe: TrainingRecipe, source: Path) -> Vocabulary:
    """The tokenizer of the model in `source` as the recipe wants it.

    An adapter that is continued brings its own, with the tokens that it was trained with.
    """
    tokenizer: PreTrainedTokenizerBase = pretrained.tokenizer(source)
    known = set(tokenizer.get_vocab().values())
    if recipe.adapter is not None:
        folder = modelref.adapter_folder(recipe.adapter.path)
        if (folder / "tokenizer.json").is_file():
            tokenizer = pretrained.tokenizer(folder)
    marks = list(recipe.new_tokens)
    if recipe.chat_template is not None:
        template = templates.find(recipe.chat_template)
        own = tokenizer.chat_template
        if own and own != template.text and not recipe.replace_template:
            raise InputError(
                f"chat_template: {recipe.model} has another chat template of its own, which it was "
                "trained with and is served with; drop the key, or write replace_template: true"
            )
        tokenizer.chat_template = template.text
        marks = [*template.tokens, *marks]
        add(tokenizer, marks)
        if template.end is not None:
            tokenizer.eos_token = template.end
    add(tokenizer, marks)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    new = tuple(sorted(set(tokenizer.get_vocab().values()) - known))
    if new and recipe.method not in TRAINS_TOKENS:
        raise InputError(
            f"method: {recipe.method} cannot train the {len(new)} tokens that {recipe.model} does "
            f"not have ({', '.join(tokenizer.convert_ids_to_tokens(new[:3]))}); write method: lora"
        )
    if new:
        ui.note(f"{len(new)} new tokens: {', '.join(tokenizer.convert_ids_to_tokens(new))}")
    return Vocabulary(tokenizer, new)


def add(tokenizer: PreTrainedTokenizerBase, marks: list[str]) -> None:
    """Make each mark one special token; one that is an ordinary word becomes special."""
    wanted = [mark for mark in dict.fromkeys(marks) if mark not in tokenizer.all_special_tokens]
    tokenizer.add_tokens([AddedToken(m, special=True, normalized=False) for m in wanted], True)


@torch.no_grad()
def fit(model: Any, vocabulary: Vocabulary) -> None:
    """Give the model a vector for each token, and the tokenizer's ends of text.

    A new token begins as the mean of all others (Hewitt 2021): its logit then changes the other
    tokens' chances least.
    """
    tokenizer, new = vocabulary.tokenizer, list(vocabulary.new)
    vectors = model.get_input_embeddings().num_embeddings
    if len(tokenizer) - len(new) > vectors:
        raise InputError(
            f"the tokenizer has {len(tokenizer) - len(new)} tokens and the model {vectors} "
            "vectors: they do not belong together"
        )
    if len(tokenizer) > vectors:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    if new:
        for layer in (model.get_input_embeddings(), model.get_output_embeddings()):
            layer.weight[new] = layer.weight[: min(new)].mean(
                0
            )  # twice the same when they are tied
    ends = model.generation_config.eos_token_id
    ends = [e for e in (ends if isinstance(ends, list) else [ends]) if e is not None]
    if tokenizer.eos_token_id not in ends:  # a template's end of turn: generation has to stop at it
        ends = [tokenizer.eos_token_id, *ends]
        model.generation_config.eos_token_id = ends if len(ends) > 1 else ends[0]
        model.config.eos_token_id = tokenizer.eos_token_id
        for config in (model.config, model.generation_config):
            config.pad_token_id = tokenizer.pad_token_id


def layers(model: Any, vocabulary: Vocabulary) -> list[str]:
    """The names of the layers that hold the vectors of new tokens; none when there are none.

    An adapter has to train them whole: TRL reads the output layer's weight past PEFT's wrapper for
    single tokens, so these would be trained with a wrong loss.
    """
    if not vocabulary.new:
        return []
    ends = (model.get_input_embeddings(), model.get_output_embeddings())
    return [
        name.rpartition(".")[2]
        for name, layer in model.named_modules()
        if any(layer is end for end in ends)
    ]
