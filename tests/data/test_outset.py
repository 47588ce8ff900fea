"""Rows that no run could learn from are refused by the plan, with file and line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import InputError
from llmctl.runner import Options, plan

TURNS = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
CHAT = {"messages": TURNS}
PAIR = {"prompt": TURNS[:1], "chosen": TURNS[1:], "rejected": TURNS[1:]}
LABELLED = {"prompt": TURNS[:1], "completion": TURNS[1:], "label": True}
ALPACA = {"instruction": "Why?", "output": "So."}
QUERY = {"query": "a", "positive": "b"}
EMPTY = "validation: empty.jsonl"
GRPO = "{kind: grpo, generations: 4, rewards: [{kind: length, most: 9}]}"


def planned(folder: Path, stage: str, rows: Sequence[Any], **keys: str) -> None:
    """The plan of a recipe on these rows, a line each; a text is a line as it is."""
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    (folder / "rows.jsonl").write_text("".join(line + "\n" for line in lines))
    given = {"model": "none/such", "out": str(folder / "out"), **keys}
    data = f"{{train: {folder / 'rows.jsonl'}, {keys.pop('data', '')}}}"
    given["data"] = data
    text = "".join(f"{key}: {value}\n" for key, value in {"stage": stage, **given}.items())
    (folder / "recipe.yaml").write_text(text)
    plan(stage, folder / "recipe.yaml", Options())


REFUSED: dict[str, tuple[str, list[Any], dict[str, str], str]] = {
    "nothing": ("sft", [], {}, "rows.jsonl: has no rows$"),
    "blank lines": ("dpo", ["", " "], {}, "rows.jsonl: has no rows$"),
    "no row": ("sft", ["[1]"], {}, "rows.jsonl:1: is a list, a row is an object"),
    "no JSON": ("dpo", ["{"], {}, "rows.jsonl:1: not valid JSON"),
    "no format": ("sft", [{"other": 1}], {}, "rows.jsonl:1: no known format has the keys"),
    "another format": (
        "sft", [ALPACA], {"data": "format: sharegpt"}, "rows.jsonl:1: .*conversations",
    ),
    "pairs": ("sft", [PAIR], {}, "rows.jsonl:1: an example has `messages`; found prompt, chosen"),
    "conversations": ("dpo", [CHAT], {}, "rows.jsonl:1: a pair has `prompt`, `chosen`"),
    "conversations of others": ("dpo", [ALPACA], {}, "rows.jsonl:1: a pair has `prompt`"),
    "labels": ("dpo", [LABELLED], {}, "rows.jsonl:1: .* needs pairs; write loss: kto"),
    "labels for rewards": (
        "dpo", [LABELLED], {"objective": "reward"}, "rows.jsonl:1: a pair has .*; found prompt",
    ),
    "a number for a text": ("sft", [{"text": 5}], {}, "rows.jsonl:1: `text` is a number, text is"),
    "no label": (
        "dpo", [{**LABELLED, "label": 1}], {"loss": "kto", "batch_size": "2"}, "true or false",
    ),
    "no prompt": ("dpo", [{"text": "a"}], {"objective": GRPO}, "rows.jsonl:1: `prompt` must be a"),
    "no text to classify": (
        "sft", [{"text": None}], {"task": "classifier"}, "rows.jsonl:1: `text` is null, text is",
    ),
    "an empty prompt": ("dpo", [{"prompt": []}], {"objective": GRPO}, "a non-empty list of mess"),
    "a prompt of texts": (
        "dpo", [{"prompt": ["Why?"]}], {"objective": GRPO}, "prompt.0 needs `role` and `content`",
    ),
    "negatives in a text": (
        "sft", [{**QUERY, "negatives": "c"}], {"task": "embedding"}, "`negatives` a list of texts",
    ),
    "a number of negatives": (
        "sft", [{**QUERY, "negatives": 5}], {"task": "reranker"}, "`negatives` a list of texts",
    ),
    "no query": ("sft", [{"x": 1}], {"task": "embedding"}, "rows.jsonl:1: is neither a pair"),
    "no text": ("sft", [{"x": 1}], {"task": "classifier"}, "rows.jsonl:1: needs `text` or"),
    "no held-out file": ("sft", [CHAT], {"data": "validation: none.jsonl"}, "none.jsonl is not"),
    "no held-out split": ("sft", [CHAT], {"data": "validation: ."}, "neither a test nor a valid"),
    "no held-out rows": ("sft", [CHAT], {"data": EMPTY}, "empty.jsonl: has no rows$"),
    "no held-out pairs": (
        "sft", [QUERY], {"task": "embedding", "data": EMPTY}, "empty.jsonl: has no rows$",
    ),
    "no held-out labels": (
        "sft", [{"text": "a"}], {"task": "classifier", "data": EMPTY}, "empty.jsonl: has no rows$",
    ),
    "no rows to mix in": (
        "sft", [CHAT], {"data": "mix: [{path: /dev/null}]"}, "/dev/null: is a pipe or a device",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_rows_that_no_run_could_use_are_refused_by_the_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    stage, rows, keys, said = REFUSED[name]
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "empty.jsonl").touch()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match=said) as error:
        planned(tmp_path, stage, rows, **keys)
    assert "\n" not in str(error.value)


def test_a_shard_of_the_held_out_split_that_is_missing_is_refused_by_the_plan(
    tmp_path: Path,
) -> None:
    (tmp_path / "train-0-of-1.jsonl").write_text(json.dumps(CHAT))
    (tmp_path / "test-1-of-2.jsonl").write_text(json.dumps(CHAT))
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(f"stage: sft\nout: o\nmodel: none/such\ndata: {{train: {tmp_path}}}\n")
    with pytest.raises(InputError, match=r"test-0-of-2\.jsonl or test-2-of-2\.jsonl is missing"):
        plan("sft", recipe, Options())


@pytest.mark.parametrize(
    ("stage", "row", "keys"),
    [
        ("sft", CHAT, {}),
        ("sft", {"text": "a"}, {}),
        ("sft", ALPACA, {}),
        ("sft", {"text": "a", "document_id": "d"}, {"task": "reranker"}),
        ("sft", {"text": "a", "meta": "by hand"}, {"task": "reranker"}),
        ("sft", QUERY, {"task": "embedding"}),
        ("sft", {**CHAT, "label": 1}, {"task": "classifier"}),
        ("dpo", PAIR, {}),
        ("dpo", PAIR, {"objective": "reward"}),
        ("dpo", LABELLED, {"loss": "kto", "batch_size": "2"}),
        ("dpo", {"prompt": TURNS[:1]}, {"objective": GRPO}),
        ("dpo", CHAT, {"objective": GRPO}),
    ],
)
def test_rows_of_every_form_that_is_learnt_from_pass(
    tmp_path: Path, stage: str, row: Any, keys: dict[str, str]
) -> None:
    planned(tmp_path, stage, [row], **keys)


@pytest.mark.parametrize(("task", "row"), [("embedding", QUERY), ("classifier", {"text": "a"})])
def test_held_out_rows_may_be_the_validation_split_of_a_folder(
    tmp_path: Path, task: str, row: Any
) -> None:
    (tmp_path / "apart").mkdir()
    (tmp_path / "apart" / "validation.jsonl").write_text(json.dumps({"other": 1}))
    held_out = {"task": task, "data": f"validation: {tmp_path / 'apart'}"}
    with pytest.raises(InputError, match=r"apart/validation\.jsonl:1: "):
        planned(tmp_path, "sft", [row], **held_out)
    (tmp_path / "apart" / "validation.jsonl").write_text(json.dumps(row))
    planned(tmp_path, "sft", [row], **held_out)
