"""The promise of a format: a row of somebody's file as one of ours, and back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

from llmctl.errors import InputError
from llmctl.plugins import Backend
from llmctl.records import ROLES, form_of


class UnfitError(Exception):
    """A row that is well-formed but nothing can be learnt from; it leaves with this reason."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


class Format(Backend):
    """Reads and writes one row at a time; `read(write(row))` has the content of `row`."""

    shape: ClassVar[str]
    """What a row looks like, for messages."""

    @classmethod
    @abstractmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """Whether a row has the keys of this format; at most one format should say so."""

    @abstractmethod
    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """The row as ours; raises InputError at `where` (file:line), or UnfitError."""

    @abstractmethod
    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """A row of ours in this format; raises InputError when it cannot be held."""


def rest(row: Mapping[str, Any], used: Iterable[str]) -> dict[str, Any]:
    """What a row of another format says beside its content: ours as it is, all else as `meta`."""
    known = {key: row[key] for key in ("id", "tools") if row.get(key) is not None}
    source = row.get("source")
    if isinstance(source, Mapping):
        known["source"] = dict(source)
    skipped = {*used, "id", "tools", "meta", *(["source"] if "source" in known else [])}
    extra = {k: v for k, v in row.items() if k not in skipped and v is not None}
    meta = row.get("meta")
    known["meta"] = {**(dict(meta) if isinstance(meta, Mapping) else {}), **extra}
    return known


def text(row: Mapping[str, Any], key: str, where: str, *, optional: bool = False) -> str:
    """A field that has to be text; absent or null is empty text when it is `optional`."""
    value = row.get(key)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        found = "is missing" if key not in row else f"is {kind_of(value)}"
        raise InputError(f"{where}: `{key}` {found}, text is needed")
    return value


def kind_of(value: Any) -> str:
    """What a JSON value is, in words."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")


def turn(role: str, content: str) -> dict[str, Any]:
    """A message."""
    return {"role": role, "content": content}


def dialogue(system: str, *turns: str) -> list[dict[str, Any]]:
    """Messages from texts that the user and the assistant say by turns; no system when empty."""
    roles = ("user", "assistant")
    said = [turn(roles[i % 2], each) for i, each in enumerate(turns)]
    return [turn("system", system), *said] if system else said


def alternating(
    messages: Sequence[Mapping[str, Any]], format_name: str, where: str
) -> tuple[str, list[str]]:
    """(system text or nothing, what user and assistant say by turns); the reverse of `dialogue`."""
    system = ""
    turns = list(messages)
    if turns and turns[0]["role"] == "system":
        system = turns.pop(0)["content"]
        if not system:
            raise InputError(f"{where}: {format_name} cannot hold an empty system message")
    for number, message in enumerate(turns):
        wanted = ("user", "assistant")[number % 2]
        if message["role"] != wanted or set(message) != {"role", "content"}:
            found = "a tool call" if message.get("tool_calls") else f"a turn of {message['role']}"
            raise InputError(
                f"{where}: {format_name} cannot hold {found} where the {wanted} speaks; "
                f"export as openai"
            )
    return system, [message["content"] for message in turns]


def messages_of(value: Any, key: str, where: str) -> list[dict[str, Any]]:
    """Messages in OpenAI's form, checked; text parts are joined, old names are made new."""
    if not isinstance(value, list) or not value:
        raise InputError(f"{where}: `{key}` must be a non-empty list of messages")
    return [_message(each, f"{where}: {key}.{number}") for number, each in enumerate(value)]


RENAMED = {"developer": "system", "function": "tool"}
"""Roles of other versions of OpenAI's form."""


def _message(message: Any, where: str) -> dict[str, Any]:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InputError(f"{where} needs `role` and `content`")
    role = RENAMED.get(message["role"], message["role"])
    if role not in ROLES:
        raise InputError(f"{where}: no role named '{role}'; there are: {', '.join(ROLES)}")
    found = {key: each for key, each in message.items() if each is not None}
    call = found.pop("function_call", None)
    if call is not None:
        found.setdefault("tool_calls", [{"type": "function", "function": call}])
    content = found.get("content", "" if found.get("tool_calls") else None)
    if isinstance(content, list):
        content = "".join(_part(part, where) for part in content)
    if content is None:
        raise InputError(f"{where} needs `role` and `content`")
    if not isinstance(content, str):
        raise InputError(f"{where}: `content` must be text, it is {kind_of(content)}")
    return {**found, "role": role, "content": content}


def _part(part: Any, where: str) -> str:
    if isinstance(part, Mapping) and part.get("type", "text") == "text":
        return text(part, "text", where)
    kind = part.get("type") if isinstance(part, Mapping) else kind_of(part)
    raise InputError(f"{where}: `content` has a part that is {kind}; only text can be learnt here")


def answered(prompt: Sequence[Mapping[str, Any]], answer: Sequence[Mapping[str, Any]]) -> bool:
    """Whether both are one user turn and one assistant turn: what two plain texts can hold."""
    keys = {"role", "content"}
    return (
        [m["role"] for m in prompt] == ["user"]
        and [m["role"] for m in answer] == ["assistant"]
        and all(set(m) == keys for m in (*prompt, *answer))
    )


def split_answer(
    messages: Sequence[Mapping[str, Any]], where: str
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """A conversation before its last answer, and that answer."""
    if not messages or messages[-1]["role"] != "assistant":
        raise InputError(f"{where}: does not end with an answer of the assistant")
    return list(messages[:-1]), [messages[-1]]


def pair_of(row: Mapping[str, Any], kind: str, where: str, *, tools: bool = False) -> None:
    """Refuse to write what is no pair; `tools` says whether the format has a place for them."""
    if not {"prompt", "chosen", "rejected"} <= row.keys():
        raise InputError(f"{where}: {kind} holds pairs; this row is none")
    _no_tools(row, kind, where, tools)


def example_of(
    row: Mapping[str, Any], kind: str, where: str, *, tools: bool = False
) -> list[dict[str, Any]]:
    """The messages of an example; refuses to write anything else."""
    if "messages" not in row:
        found = {"pairs": "a pair", "labelled": "a labelled answer"}.get(form_of(row), "raw text")
        raise InputError(f"{where}: {kind} holds conversations; this row is {found}")
    _no_tools(row, kind, where, tools)
    return list(row["messages"])


def with_tools(row: Mapping[str, Any]) -> dict[str, Any]:
    """The `tools` of a row, if it has any."""
    return {"tools": row["tools"]} if row.get("tools") else {}


def _no_tools(row: Mapping[str, Any], kind: str, where: str, held: bool) -> None:
    if row.get("tools") and not held:
        raise InputError(f"{where}: {kind} cannot hold `tools`; export as openai or sharegpt")
