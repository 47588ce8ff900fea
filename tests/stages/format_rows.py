"""Where each key of a format lands; part of reach_build_dataset.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llmctl.data.formats.base import UnfitError

KINDS: dict[str, dict[str, Any]] = {
    "format[columns]": {"user": "q", "assistant": "a"},
    "format[pair_columns]": {"user": "q", "chosen": "a", "rejected": "b"},
}
CELLS = {"q": "Warm?", "a": "Yes.", "b": "No.", "s": "Be brief.", "e": "Else."}
SCORED = {
    "instruction": "Do it.",
    "completions": [
        {"response": "first", "overall_score": 9, "fine-grained_score": 1.0},
        {"response": "second", "overall_score": 8, "fine-grained_score": 2.0},
    ],
}


def read(row: dict[str, Any]) -> Any:
    """What the recipe's format makes of a row; why it is unfit; or the keys that it has."""

    def made(built: SimpleNamespace) -> Any:
        try:
            return built.recipe.format.read(row, "f:1")
        except UnfitError as error:
            return error.reason

    return made


def said(index: int, row: dict[str, Any] = CELLS) -> Any:
    return lambda built: read(row)(built)["messages"][index]["content"]


def chosen(built: SimpleNamespace) -> Any:
    return read(SCORED)(built)["chosen"][0]["content"]


def answer(name: str) -> Any:
    return lambda built: read(CELLS)(built)[name][0]["content"]


ROWS: dict[str, Any] = {
    "format": ("hh", lambda built: built.recipe.format.kind),
    "format[columns].user": ("e", said(0), "Else."),
    "format[columns].assistant": ("e", said(1), "Else."),
    "format[columns].system": ("s", said(0), "Be brief."),
    "format[pair_columns].user": (
        "e",
        lambda built: read(CELLS)(built)["prompt"][0]["content"],
        "Else.",
    ),
    "format[pair_columns].chosen": ("e", answer("chosen"), "Else."),
    "format[pair_columns].rejected": ("e", answer("rejected"), "Else."),
    "format[pair_columns].system": ("s", lambda built: len(read(CELLS)(built)["prompt"]), 2),
    "format[text].field": ("e", lambda built: read({**CELLS, "text": "t"})(built)["text"], "Else."),
    "format[ultrafeedback].score": ("fine-grained_score", chosen, "second"),
    "format[ultrafeedback].min_margin": (1.5, read(SCORED), "low_margin"),
}
