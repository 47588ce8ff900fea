"""OpenAI's chat form: `messages`, and `tools` where there are any. llmctl's own examples too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, example_of, messages_of, rest, with_tools

CONTENT = ("prompt", "completion", "chosen", "rejected", "answers")
"""Keys that would make a row one of another form; UltraChat repeats the question as `prompt`."""


class OpenaiFormat(Format):
    """`{messages: [{role, content}, …]}`; parts of text are joined, tool calls are kept."""

    shape: ClassVar[str] = "messages: [{role, content}]"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return "messages" in row and "chosen" not in row and not isinstance(row.get("label"), bool)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; keys beside `messages` stay, those that are content elsewhere are `meta`."""
        messages = messages_of(row.get("messages"), "messages", where)
        others = {key: value for key, value in row.items() if key not in CONTENT}
        if len(others) < len(row):
            others["meta"] = rest(row, set(row) - set(CONTENT))["meta"]
        return {**others, "messages": messages}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        return {"messages": example_of(row, self.kind, where, tools=True), **with_tools(row)}
