"""Rows that a task cannot ask are refused at their place, before a model is loaded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmctl.errors import InputError
from llmctl.evaluation.tasks.base import Task
from llmctl.stages.quantize import texts_of

TURN = {"role": "user", "content": "q"}
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("choice", {"question": None, "choices": ["a", "b"], "answer": 0}, "`question` must be text"),
    ("choice", {"question": ["a"], "choices": ["a", "b"], "answer": 0}, "`question` must be text"),
    ("choice", {"question": "q", "choices": ["a", None], "answer": 0}, "at least two texts"),
    ("choice", {"question": "q", "choices": ["a", True], "answer": 0}, "at least two texts"),
    ("generate", {"prompt": "q", "answer": None}, "`answer` must be one text or several"),
    ("generate", {"prompt": "q", "answer": ["a", {}]}, "`answer` must be one text or several"),
    ("generate", {"prompt": [{"role": "user"}], "answer": "a"}, "prompt.0 needs `role` and"),
    ("generate", {"messages": [TURN, "a"]}, "messages.1 needs `role` and `content`"),
    ("perplexity", {"text": None}, "`text` must be text"),
    ("perplexity", {"text": 5}, "`text` must be text"),
]


@pytest.mark.parametrize(("kind", "row", "says"), WRONG)
def test_what_is_no_text_is_not_measured(
    tmp_path: Path, kind: str, row: dict[str, Any], says: str
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(row))
    with pytest.raises(InputError, match=f"rows.jsonl:1: .*{says}"):
        Task.of({"kind": kind, "data": str(data)}).items(tmp_path, None, 0)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"text": None}, "has no `text` and no `messages`"),
        ({"messages": [{"role": "user", "content": None}]}, "`content` must be text"),
        ({"prompt": "q"}, "has no `text` and no `messages`; found prompt"),
    ],
)
def test_what_is_no_text_is_not_quantized_for(
    tmp_path: Path, row: dict[str, Any], says: str
) -> None:
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps(row))
    with pytest.raises(InputError, match=f"rows.jsonl:1: .*{says}"):
        list(texts_of(data))
