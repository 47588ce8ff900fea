"""OpenAI's chat form: `messages`, and `tools` where there are any. llmctl's own examples too."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, example_of, messages_of, with_tools


class OpenaiFormat(Format):
    """`{messages: [{role, content}, …]}`; parts of text are joined, tool calls are kept."""

    shape: ClassVar[str] = "messages: [{role, content}]"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return "messages" in row and "chosen" not in row and not isinstance(row.get("label"), bool)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; keys beside `messages` stay where they are."""
        return {**row, "messages": messages_of(row.get("messages"), "messages", where)}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        return {"messages": example_of(row, self.kind, where, tools=True), **with_tools(row)}
