"""What a dataset is handed on with: its card, a copy in another format, a place on the Hub."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from llmctl.data.formats.base import Format
from llmctl.schema.base import Part
from llmctl.schema.parts import Variable


class Card(Part):
    """What the dataset card says that the rows do not."""

    title: str | None = Field(None, min_length=1, description="Name of the dataset.")
    description: str | None = Field(None, min_length=1, description="What it is, in a paragraph.")
    license: str | None = Field(
        None,
        min_length=1,
        description="Licence as the Hub names it, such as apache-2.0 or cc-by-4.0; without it that "
        "of the sources, when they all name the same.",
    )
    language: list[str] = Field(
        default_factory=list, description="Languages of the rows, as codes such as en."
    )
    tags: list[str] = Field(default_factory=list, description="Further tags.")


class Export(Part):
    """A copy of each split in the folder `export`, for other tools."""

    format: Format | None = Field(
        None, description="How rows are written; without it as llmctl has them."
    )
    file: Literal["jsonl", "json", "csv", "parquet"] = Field(
        "jsonl", description="What the files are; csv takes rows whose values are all texts."
    )
    skip_unheld: bool = Field(
        False,
        description="Leave out rows that the format cannot hold, counted and listed in "
        "export/left_out.jsonl; otherwise the first one stops the run.",
    )


class Push(Part):
    """Where the dataset is uploaded to when it is done."""

    repo: str = Field(
        pattern=r"^[\w.-]+/[\w.-]+$", description="Name on the Hub: OWNER/NAME; made when missing."
    )
    private: bool = Field(True, description="Whether only its owner sees it, when it is made.")
    token_env: Variable = Field("HF_TOKEN", description="Environment variable that has the token.")
