"""Parts that several recipes share."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from llmctl.data.formats.base import Format
from llmctl.schema.base import Part

ModelRef = Annotated[
    str,
    Field(
        min_length=1,
        description="hub id | folder | .gguf file | pkg:NAME (weights inside an installed "
        "package) | another stage's artifact folder",
    ),
]


Device = Annotated[
    str,
    Field(
        pattern=r"^(auto|cpu|mps|(cuda|xpu)(:\d+)?)$",
        description="cpu, cuda, cuda:1 ...; auto takes a GPU when there.",
    ),
]
WeightType = Literal["auto", "fp32", "bf16", "fp16"]
"""What the weights of a saved model are numbers of."""


def _variable(name: str) -> str:
    if not re.fullmatch(VARIABLE, name):
        raise PydanticCustomError(
            "secret",
            "name an environment variable (letters, digits and _); the value itself has no place "
            "in a recipe",
        )
    return name


VARIABLE = "[A-Za-z_][A-Za-z0-9_]*"
Variable = Annotated[
    str, Field(json_schema_extra={"pattern": f"^{VARIABLE}$"}), AfterValidator(_variable)
]
"""Name of an environment variable; what is given instead may be a secret and is not shown."""


def _without_secret(address: str) -> str:
    if "@" in address.split("/")[2]:
        raise PydanticCustomError(
            "secret",
            "a name or a password in the address would be written down: name the "
            "environment variable of a key in `api_key_env`",
        )
    return address


Address = Annotated[
    str,
    Field(pattern=r"^https?://[^/]", description="Address up to and including /v1."),
    AfterValidator(_without_secret),
]


Price = Annotated[
    dict[Literal["input", "output"], Annotated[float, Field(ge=0)]],
    Field(
        description="What is charged per million tokens, in any currency: {input: 0.5, output: 2}."
    ),
]


def _some(paths: Path | list[Path]) -> Path | list[Path]:
    if paths == []:
        raise ValueError("the list is empty; name a file or a folder")
    return paths


Paths = Annotated[Path | list[Path], AfterValidator(_some)]


ROWS = (
    "Folder with a train split (an artifact, or shards as the Hub names them), a file of rows, or "
    "a pattern such as rows/*.jsonl."
)


class Lora(Part):
    """A low-rank adapter (Hu et al. 2021): W + alpha/r * B A, with only A and B trained."""

    r: int = Field(16, ge=1, le=1024, description="Rank of the two added matrices.")
    alpha: int = Field(32, ge=1, description="Scale of the update; it is multiplied by alpha/r.")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="Share of the adapter's inputs that training sets to zero."
    )
    target_modules: Literal["all-linear"] | list[str] = Field(
        "all-linear",
        description="Layers that get an adapter: names such as q_proj, or all-linear (all but the "
        "output layer).",
    )
    rslora: bool = Field(
        False, description="Scale by alpha/sqrt(r) instead (Kalajdzievski 2023), for large r."
    )
    dora: bool = Field(
        False,
        description="Train the length of each weight's columns apart from their direction (Liu et "
        "al. 2024): nearer to full training, slower.",
    )
    modules_to_save: list[str] = Field(
        default_factory=list,
        description="Layers that are trained whole and saved with the adapter, such as "
        "embed_tokens and lm_head.",
    )

    @model_validator(mode="after")
    def _layers(self) -> Self:
        if self.target_modules == []:
            raise ValueError("target_modules names no layer; write all-linear or some names")
        if "lm_head" in self.target_modules:
            raise ValueError(
                "target_modules: lm_head gets no adapter, its loss is computed without one; "
                "put it into modules_to_save"
            )
        both = set(self.modules_to_save) & set(self.target_modules)
        if both:
            raise ValueError(f"modules_to_save: {', '.join(sorted(both))} has an adapter already")
        return self


class Source(Part):
    """Further rows that are mixed in, such as general conversations against forgetting."""

    path: Path = Field(description=ROWS)
    share: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of all training rows that come from here; too few are repeated, more "
        "are drawn with the seed.",
    )
    epochs: float | None = Field(
        None,
        gt=0,
        le=100,
        description="Passes over these rows in one pass over the mixture; 0.5 draws half of them. "
        "By default 1, when there is no `share`.",
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.share is not None and self.epochs is not None:
            raise ValueError("share and epochs both say how many rows are taken; drop one")
        return self


class TrainData(Part):
    """The rows to learn from and the rows that are kept back to measure with."""

    train: Path = Field(description=ROWS)
    mix: list[Source] = Field(
        default_factory=list, description="Further sources; `train` itself is taken once, whole."
    )
    validation: Path | None = Field(
        None,
        description="Folder, file or pattern of held-out rows; without it the folder of `train` "
        "is used (its test split, else its validation split).",
    )
    format: Format | None = Field(
        None,
        description="Format of files that other tools wrote; without it the rows tell it.",
    )
    hold_out: float = Field(
        0.2,
        ge=0,
        lt=1,
        description="Share of the rows that is kept back when there is no held-out split at all.",
    )
    eval_rows: int = Field(
        64, ge=2, description="Most held-out rows that are measured, drawn with the seed."
    )

    @model_validator(mode="after")
    def _shares(self) -> Self:
        total = sum(each.share or 0 for each in self.mix)
        if total >= 1:
            raise ValueError(f"mix: the shares are {total:g} together; `train` needs a share too")
        return self
