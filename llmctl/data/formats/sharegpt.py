"""ShareGPT: `conversations` of `from` and `value`; with `chosen` and `rejected`, pairs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, example_of, pair_of, rest, text, turn
from llmctl.errors import InputError
from llmctl.tables import json_fault

ROLE_OF = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "assistant": "assistant",
    "model": "assistant",
    "system": "system",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}
"""Speakers as the sets in circulation name them; what others write is refused, not guessed."""
NAME_OF = {"user": "human", "assistant": "gpt", "system": "system", "tool": "observation"}


class SharegptFormat(Format):
    """Tool calls are turns of `function_call` with their JSON, results turns of `observation`."""

    shape: ClassVar[str] = "conversations: [{from, value}]"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return "conversations" in row

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        said = row.get("conversations")
        if not isinstance(said, list) or not said:
            raise InputError(f"{where}: `conversations` must be a non-empty list")
        messages = [
            _message(each, f"{where}: conversations.{number}") for number, each in enumerate(said)
        ]
        system = text(row, "system", where, optional=True)
        if system:
            messages.insert(0, turn("system", system))
        extra = rest(row, ("conversations", "system", "chosen", "rejected"))
        if isinstance(extra.get("tools"), str):
            extra["tools"] = _json(extra["tools"], f"{where}: tools")
        if not extra.get("tools"):
            extra.pop("tools", None)  # `[]` says that there are none
        if "chosen" not in row and "rejected" not in row:
            return {"messages": messages, **extra}
        answers = {n: [_message(row.get(n), f"{where}: {n}")] for n in ("chosen", "rejected")}
        return {"prompt": messages, **answers, **extra}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; a pair becomes a conversation with `chosen` and `rejected`."""
        if "messages" in row:
            said = example_of(row, self.kind, where, tools=True)
            found: dict[str, Any] = {"conversations": [_said(each, where) for each in said]}
        else:
            pair_of(row, self.kind, where, tools=True)
            found = {"conversations": [_said(each, where) for each in row["prompt"]]}
            for name in ("chosen", "rejected"):
                if len(row[name]) != 1:
                    raise InputError(f"{where}: sharegpt holds one turn as `{name}`")
                found[name] = _said(row[name][0], where)
        if row.get("tools"):
            found["tools"] = json.dumps(row["tools"], ensure_ascii=False)
        return found


def _message(each: Any, where: str) -> dict[str, Any]:
    if not isinstance(each, Mapping):
        raise InputError(f"{where} must have `from` and `value`")
    who = each.get("from", each.get("role"))
    what = each.get("value", each.get("content"))
    if not isinstance(who, str) or not isinstance(what, str):
        raise InputError(f"{where} must have `from` and `value`")
    if who not in ROLE_OF:
        raise InputError(f"{where}: no speaker named '{who}'; there are: {', '.join(ROLE_OF)}")
    if who != "function_call":
        return turn(ROLE_OF[who], what)
    call = _json(what, where)
    calls = call if isinstance(call, list) else [call]
    if not all(isinstance(c, dict) and isinstance(c.get("name"), str) for c in calls):
        raise InputError(f"{where}: a function_call names its function: {{name, arguments}}")
    functions = [{"name": c["name"], "arguments": _arguments(c)} for c in calls]
    return {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": each} for each in functions],
    }


def _arguments(call: Mapping[str, Any]) -> str:
    """OpenAI's form has the arguments as JSON in a text."""
    given = call.get("arguments", {})
    return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)


def _said(message: Mapping[str, Any], where: str) -> dict[str, str]:
    calls = message.get("tool_calls")
    if not calls:
        return {"from": NAME_OF[message["role"]], "value": message["content"]}
    if message["content"]:
        raise InputError(f"{where}: sharegpt cannot hold a turn of both text and a tool call")
    functions = []
    for call in calls:
        name, arguments = call["function"]["name"], call["function"].get("arguments", "{}")
        if isinstance(arguments, str):
            arguments = _json(arguments, f"{where}: arguments of {name}")
        functions.append({"name": name, "arguments": arguments})
    value = functions[0] if len(functions) == 1 else functions
    return {"from": "function_call", "value": json.dumps(value, ensure_ascii=False)}


def _json(value: str, where: str) -> Any:
    try:
        return json.loads(value)
    except ValueError as error:
        raise InputError(f"{where}: not valid JSON: {json_fault(error)}") from None
