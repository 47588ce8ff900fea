"""What of a model is trained (every weight, or a small adapter), and its chat template."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from llmctl import templates
from llmctl.schema.base import Part, Recipe
from llmctl.schema.parts import Lora

Method = Literal["lora", "qlora", "full", "prompt", "prefix", "ia3"]

PARTS = {
    "lora": ("lora", "qlora"),
    "qlora": ("qlora",),
    "prompt": ("prompt",),
    "prefix": ("prefix",),
    "ia3": ("ia3",),
    "adapter": ("lora", "qlora", "prompt", "prefix", "ia3"),
}
"""Part of a recipe -> the methods that it says something to."""
SHAPES = {"lora", "prompt", "prefix", "ia3"}
"""Parts that say what a new adapter looks like."""
UNMERGED = ("prompt", "prefix")
"""Methods whose result is no weight of the model: they stay an adapter."""


class Qlora(Part):
    """The frozen base in four bits (Dettmers et al. 2023), through bitsandbytes."""

    type: Literal["nf4", "fp4"] = Field(
        "nf4", description="The 16 values that a weight may have; nf4 suits normal weights."
    )
    double: bool = Field(
        True, description="Quantize the blocks' scales too: 0.4 bits less per weight."
    )
    compute: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Arithmetic of the dequantized layers; auto is that of `precision`.",
    )


class Prompt(Part):
    """Trained vectors before each row's first token (Lester et al. 2021)."""

    tokens: int = Field(16, ge=1, le=1024, description="How many vectors.")
    text: str | None = Field(
        None,
        min_length=1,
        description="Words whose vectors they begin as; null begins with random words.",
    )


class Prefix(Part):
    """Trained keys and values before each layer's own (Li and Liang 2021)."""

    tokens: int = Field(16, ge=1, le=1024, description="How many positions.")


class Ia3(Part):
    """Trained factors of keys, values and the feed-forward input (Liu et al. 2022)."""

    target_modules: list[str] | None = Field(
        None,
        min_length=1,
        description="Layers that get factors; null takes those that PEFT knows for the model.",
    )
    feedforward_modules: list[str] | None = Field(
        None,
        description="Those of them whose input is scaled instead of their output.",
    )

    @model_validator(mode="after")
    def _some_of_the_targets(self) -> Self:
        wrong = set(self.feedforward_modules or ()) - set(self.target_modules or ())
        if wrong:
            raise ValueError(
                f"feedforward_modules: {', '.join(sorted(wrong))} is not in target_modules"
            )
        return self


class StartAdapter(Part):
    """An adapter of the same base that training begins with."""

    path: Path = Field(description="Artifact folder of sft or dpo, or a folder of PEFT.")
    how: Literal["continue", "stack"] = Field(
        "continue",
        description="`continue` trains this adapter on; `stack` adds it to the base and trains a "
        "new one on top.",
    )


class MethodKeys(Recipe):
    """The method and its parts, of which others are refused, and the vocabulary.

    The parts of a few vectors (prompt, prefix, ia3) are keys of sft alone.
    """

    method: Method = Field(
        "lora",
        description="lora and qlora (base in 4 bits) train a low-rank adapter, full trains every "
        "weight, prompt, prefix and ia3 train a few vectors.",
    )
    lora: Lora = Field(default_factory=lambda: Lora.model_validate({}), description="The adapter.")
    qlora: Qlora = Field(
        default_factory=lambda: Qlora.model_validate({}), description="The 4-bit base."
    )
    adapter: StartAdapter | None = Field(
        None, description="An adapter to begin with; null begins a new one on the base."
    )

    chat_template: str | None = Field(
        None,
        description="A name (chatml, llama3, gemma, mistral ...), a .jinja file or a template; "
        "it is saved with the model. null takes the model's own.",
    )
    replace_template: bool = Field(
        False,
        description="Let `chat_template` take the place of another one that the model has been "
        "trained with.",
    )
    new_tokens: list[str] = Field(
        default_factory=list,
        description="Tokens to add to the vocabulary beside those of a named template.",
    )

    @model_validator(mode="after")
    def _known_template(self) -> Self:
        problem = None if self.chat_template is None else templates.unknown(self.chat_template)
        if problem is not None:
            raise ValueError(f"chat_template: {problem}")
        if self.replace_template and self.chat_template is None:
            raise ValueError("replace_template needs a chat_template to put in its place")
        return self

    @model_validator(mode="after")
    def _parts_of_the_method(self) -> Self:
        for part, methods in PARTS.items():
            if part in self.model_fields_set and self.method not in methods:
                raise ValueError(
                    f"{part} says nothing to method: {self.method}; drop it or write method: "
                    + " or ".join(methods)
                )
        stacked = self.adapter is not None and self.adapter.how == "stack"
        if stacked and self.method == "qlora":
            raise ValueError(
                "adapter.how: stack cannot add to a base of 4 bits; merge the adapter first with "
                "`llmctl merge`, or write method: lora"
            )
        if self.adapter is not None and not stacked:
            for part in self.model_fields_set & SHAPES:
                raise ValueError(
                    f"adapter.how: continue keeps the shape of {self.adapter.path}; drop {part}"
                )
        return self

    def inputs(self) -> dict[str, Path | str]:
        """The adapter that training begins with, and a template that is a file."""
        found: dict[str, Path | str] = {}
        if self.adapter is not None:
            found["adapter.path"] = self.adapter.path
        if self.chat_template is not None and templates.is_file(self.chat_template):
            found["chat_template"] = Path(self.chat_template)
        return found

    def all_needs(self) -> dict[str, str]:
        """bitsandbytes when the base is in four bits."""
        return super().all_needs() | ({"bitsandbytes": "train"} if self.method == "qlora" else {})
