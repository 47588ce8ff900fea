"""A mistake in a recipe is one line: the place that is wrong, what is needed, what was found."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import pytest

from llmctl.errors import MissingError, RecipeError
from llmctl.runner import require
from llmctl.schema.base import RECIPES, load

SFT = "stage: sft\nout: out\nmodel: m\n"
MISTAKES = {
    "stage: dedup\nout:\ndata: {a: 1}\n": [
        "2:1: out: a path is needed, found nothing",
        "3:1: data: a path or a list is needed, found a mapping",
    ],
    "stage: dedup\nout: out\ndata: true\n": ["3:1: data: a path or a list is needed, found true"],
    "stage: dedup\nout: out\ndata: [rows.jsonl, 4]\nmethods: {kind: exact}\n": [
        "3:20: data.1: a path is needed, found 4",
        "4:1: methods: a list is needed, found a mapping",
    ],
    "stage: dedup\nout: out\ndata: []\n": ["3:1: data: the list is empty; name a file or a folder"],
    "stage: dedup\n? [a, b]\n: 3\n": ["2: a key must be a word"],
    "stage: dedup\nkeep: &x {? [a]: 3}\n<<: *x\n": ["2: a key must be a word"],
    "a: &a [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    + "".join(
        f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
        for a, b in pairwise("abcdef")
    ): ["1: a recipe has at most 100,000 values"],
    "stage: ingest\nout: out\nsource: a\nreaders: [{kind: csv, per: cell}]\n": [
        "4:23: readers.0.per: input should be 'table' or 'row', found 'cell'"
    ],
    "stage: dedup\nout: out\ndata: a\nmethods: [{kind: minhash, bar: 3}]\n": [
        "4:27: unknown key 'bar' in methods.0; there are: bands, ignore_case, kind, ngram, "
        "permutations, recall, rows, sweep, symbols, threshold, unit"
    ],
    "stage: build-dataset\nout: out\nsource: a\nfilters: [{kind: keywords, words: ['']}]\n": [
        "4:36: filters.0.words.0: string should have at least 1 character, found ''"
    ],
    "stage: serve\nout: out\nengine:\n  prefix: a\n  kind: eco\n": [
        "5:3: engine: no engine named 'eco', did you mean 'echo'?; there are: echo, llamacpp, "
        "openai, transformers"
    ],
    "stage: dedup\nout: 2026-01-01\ndata: a\n": ["2:1: out: a path is needed, found 2026-01-01"],
    "stage: dedup\nout: out\ndata: a\nmethods: []\n": ["4:1: methods: at least 1 needed, found 0"],
    "stage: dedup\nout: out\ndata: a\nmethods: [exact, exact]\n": [
        "4:1: methods: each kind may be there once"
    ],
    SFT + "data: {train: a}\nlora: {target_modules: 7}\n": [
        "5:8: lora.target_modules: 'all-linear' or a list is needed, found 7"
    ],
    SFT + "data: {train: a}\nlora: {target_modules: [q, 7]}\n": [
        "5:28: lora.target_modules.1: a text is needed, found 7"
    ],
    "stage:\nout: out\n": ["1:1: `stage` is empty; write one of: " + ", ".join(RECIPES)],
    "stage: dedup\n---\nout: out\n": [
        "2:1: not valid YAML: a recipe is one document; take the `---` away"
    ],
    SFT + "data: a\npatience: 3\n": ["4:1: data: a mapping is needed, found 'a'"],
    SFT + "patience: 3\ndata: {train: a}\n": [
        "4:1: patience goes by the held-out loss on the way; set eval_every"
    ],
    SFT + "data: {train: a}\nprecision: 8\n": [
        "5:1: precision: input should be 'auto', 'fp32', 'bf16' or 'fp16', found 8"
    ],
}


@pytest.mark.parametrize("text", MISTAKES)
def test_one_line_for_each_mistake(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(text)
    with pytest.raises(RecipeError) as caught:
        load(None, recipe)
    found = [line.removeprefix(f"{recipe}:") for line in str(caught.value).splitlines()]
    assert sorted(found) == MISTAKES[text]


def test_a_long_list_of_allowed_words_is_cut(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    cleaners = "cleaners: [{kind: language, allowed: [english]}]\n"
    recipe.write_text(f"stage: ingest\nout: out\nsource: a\n{cleaners}")
    with pytest.raises(RecipeError, match=r"one of \d+ words \(with 'e': 'el', 'en', .*'english'$"):
        load(None, recipe)


def test_extends_is_no_value_to_set(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("stage: dedup\nout: out\ndata: a\n")
    with pytest.raises(RecipeError, match=r"^--set extends: `extends` names a file"):
        load(None, recipe, ["extends=base.yaml"])


def test_what_is_not_installed_is_named_with_its_extra() -> None:
    with pytest.raises(MissingError, match=r"x needs no-such: pip install .*\[rag\]"):
        require("x", {"no-such": "rag", "pydantic": ""})
    require("x", {"pydantic": ""})
