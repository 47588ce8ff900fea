"""Conversations whose last answer is labelled as good (true) or bad (false), as KTO learns from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import (
    Format,
    answered,
    kind_of,
    messages_of,
    rest,
    split_answer,
    with_tools,
)
from llmctl.data.formats.prompt_completion import turns
from llmctl.errors import InputError


class KtoFormat(Format):
    """`{prompt, completion, label}` (TRL), or `{messages, label}` (LLaMA-Factory)."""

    shape: ClassVar[str] = "prompt, completion, label: true or false"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        content = "messages" in row or {"prompt", "completion"} <= row.keys()
        return content and isinstance(row.get("label"), bool)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        if not isinstance(row.get("label"), bool):
            found = kind_of(row["label"]) if "label" in row else "missing"
            raise InputError(f"{where}: `label` must be true or false, it is {found}")
        if "messages" in row:
            messages = messages_of(row["messages"], "messages", where)
        else:
            messages = turns(row, "prompt", "user", where)
            messages += turns(row, "completion", "assistant", where)
        prompt, completion = split_answer(messages, where)
        extra = rest(row, ("messages", "prompt", "completion", "label"))
        return {"prompt": prompt, "completion": completion, "label": row["label"], **extra}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        if "completion" not in row:
            raise InputError(f"{where}: kto holds single answers with a label; this row has none")
        prompt, completion, label = row["prompt"], row["completion"], row["label"]
        if answered(prompt, completion) and not row.get("tools"):
            one, other = prompt[0]["content"], completion[0]["content"]
            return {"prompt": one, "completion": other, "label": label}
        return {"prompt": prompt, "completion": completion, "label": label, **with_tools(row)}
