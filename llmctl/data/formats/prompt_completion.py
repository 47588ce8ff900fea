"""`prompt` and `completion`, each a text or a list of messages (TRL, OpenAI's older form)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import (
    Format,
    answered,
    example_of,
    messages_of,
    rest,
    split_answer,
    text,
    turn,
    with_tools,
)


class PromptCompletionFormat(Format):
    """`{prompt, completion}`: the question and its answer."""

    shape: ClassVar[str] = "prompt, completion"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return {"prompt", "completion"} <= row.keys() and not isinstance(row.get("label"), bool)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        messages = turns(row, "prompt", "user", where)
        messages += turns(row, "completion", "assistant", where)
        return {"messages": messages, **rest(row, ("prompt", "completion"))}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; texts where one question and its answer are all there is."""
        prompt, completion = split_answer(example_of(row, self.kind, where, tools=True), where)
        if answered(prompt, completion) and not row.get("tools"):
            return {"prompt": prompt[0]["content"], "completion": completion[0]["content"]}
        return {"prompt": prompt, "completion": completion, **with_tools(row)}


def turns(row: Mapping[str, Any], key: str, role: str, where: str) -> list[dict[str, Any]]:
    """A text as one turn of `role`, or messages as they are."""
    if isinstance(row.get(key), list):
        return messages_of(row[key], key, where)
    return [turn(role, text(row, key, where))]
