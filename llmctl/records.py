"""The rows that flow between stages, and the checks of rows that users bring.

All rows carry `id` (content-derived), `source` (where it came from, down to document and
character span) and `meta`. `Example` messages are in OpenAI's form.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NotRequired, TypedDict

from llmctl.errors import InputError

ROLES = ("system", "user", "assistant", "tool")
FORMS = ("examples", "pairs", "texts", "labelled", "candidates")
"""What rows are: conversations to learn from, better and worse answers, raw texts, single answers
labelled as good or bad, and several answers to one prompt of which the better is not known yet."""


class Message(TypedDict):
    """One turn: `role` is one of ROLES."""

    role: str
    content: str


class Document(TypedDict):
    """A cleaned document; spans elsewhere point into `text`, in characters."""

    id: str
    text: str
    title: str
    uri: str
    source: dict[str, Any]
    meta: dict[str, Any]


class Chunk(TypedDict):
    """A piece of a document: `document.text[start:end] == text`; `parent_id` names a Parent."""

    id: str
    text: str
    document_id: str
    parent_id: NotRequired[str]
    start: int
    end: int
    source: dict[str, Any]
    meta: dict[str, Any]


class Parent(TypedDict):
    """A bigger piece around small chunks that name it: `document.text[start:end] == text`."""

    id: str
    text: str
    document_id: str
    start: int
    end: int
    source: dict[str, Any]
    meta: dict[str, Any]


class Text(TypedDict):
    """Raw text for continual pre-training."""

    id: str
    text: str
    source: dict[str, Any]
    meta: dict[str, Any]


class Example(TypedDict):
    """A conversation to learn from; the assistant's turns are the targets."""

    id: str
    messages: list[Message]
    source: dict[str, Any]
    meta: dict[str, Any]


class Pair(TypedDict):
    """A better and a worse answer to the same prompt."""

    id: str
    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    source: dict[str, Any]
    meta: dict[str, Any]


class Labelled(TypedDict):
    """One answer to a prompt, and whether it is a good one."""

    id: str
    prompt: list[Message]
    completion: list[Message]
    label: bool
    source: dict[str, Any]
    meta: dict[str, Any]


class Candidates(TypedDict):
    """Several answers to a prompt, each with `content`; `votes` name the better of two."""

    id: str
    prompt: list[Message]
    answers: list[dict[str, Any]]
    votes: NotRequired[list[dict[str, Any]]]
    source: dict[str, Any]
    meta: dict[str, Any]


class Judgement(TypedDict):
    """What a judge said of one answer; `score` None means unmeasured, with the reason."""

    id: str
    judge: str
    score: float | None
    reason: str
    source: dict[str, Any]
    meta: dict[str, Any]


class Score(TypedDict):
    """One measured item; `value` None means unmeasured."""

    id: str
    task: str
    value: float | None
    source: dict[str, Any]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Dropped:
    """Something that became no row, and why."""

    id: str
    reason: str
    detail: str = ""


def form_of(row: Mapping[str, Any]) -> str:
    """Which of FORMS a row is."""
    for key, form in (("chosen", "pairs"), ("completion", "labelled"), ("answers", "candidates")):
        if key in row:
            return form
    return "examples" if "messages" in row else "texts"


def row_id(*parts: str) -> str:
    """16 hex digits from the content; the same parts give the same id everywhere."""
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


def learnt(message: Mapping[str, Any]) -> bool:
    """Whether a turn is one to learn from: not with `train: false`, or OpenAI's `weight: 0`."""
    return bool(message.get("train", True)) and message.get("weight", 1) != 0


def flat(messages: Sequence[Mapping[str, Any]]) -> str:
    """Messages as one string, for ids."""
    return "\0".join(f"{m['role']}\0{m['content']}" for m in messages)


def answer(content: str) -> list[Message]:
    """What the assistant answers, as messages."""
    return [{"role": "assistant", "content": content}]


def example(
    messages: list[Message], source: dict[str, Any], meta: dict[str, Any] | None = None
) -> Example:
    """An Example whose id comes from its messages."""
    return {
        "id": row_id(flat(messages)),
        "messages": messages,
        "source": source,
        "meta": meta or {},
    }


def pair(
    prompt: list[Message],
    chosen: list[Message],
    rejected: list[Message],
    source: dict[str, Any],
    meta: dict[str, Any] | None = None,
) -> Pair:
    """A Pair whose id comes from its three parts."""
    return {
        "id": row_id(flat(prompt), flat(chosen), flat(rejected)),
        "prompt": prompt,
        "chosen": chosen,
        "rejected": rejected,
        "source": source,
        "meta": meta or {},
    }


def labelled(
    prompt: list[Message],
    completion: list[Message],
    label: bool,
    source: dict[str, Any],
    meta: dict[str, Any] | None = None,
) -> Labelled:
    """A Labelled whose id comes from its content."""
    return {
        "id": row_id(flat(prompt), flat(completion), str(label)),
        "prompt": prompt,
        "completion": completion,
        "label": label,
        "source": source,
        "meta": meta or {},
    }


def candidates(
    prompt: list[Message],
    answers: list[dict[str, Any]],
    source: dict[str, Any],
    meta: dict[str, Any] | None = None,
) -> Candidates:
    """Candidates whose id comes from the prompt and the answers."""
    return {
        "id": row_id(flat(prompt), *(each["content"] for each in answers)),
        "prompt": prompt,
        "answers": answers,
        "source": source,
        "meta": meta or {},
    }


def _check_messages(messages: Any, where: str, key: str) -> None:
    if not isinstance(messages, list) or not messages:
        raise InputError(f"{where}: `{key}` must be a non-empty list of messages")
    for number, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            raise InputError(f"{where}: {key}.{number} needs `role` and `content`")
        if message["role"] not in ROLES:
            raise InputError(
                f"{where}: {key}.{number}: no role named '{message['role']}'; there are: "
                + ", ".join(ROLES)
            )
        if not isinstance(message["content"], str):
            raise InputError(f"{where}: {key}.{number}: `content` must be text")


def check_example(row: Mapping[str, Any], where: str) -> None:
    """Refuse what is not an Example; `where` is file:line."""
    if "messages" not in row:
        found = ", ".join(row) or "nothing"
        raise InputError(f"{where}: an example has `messages`; found {found}")
    _check_messages(row["messages"], where, "messages")


def check_prompt(row: Mapping[str, Any], where: str) -> None:
    """Refuse what has no prompt; `where` is file:line."""
    _check_messages(row.get("prompt"), where, "prompt")


def check_pair(row: Mapping[str, Any], where: str) -> None:
    """Refuse what is not a Pair; `where` is file:line."""
    for key in ("prompt", "chosen", "rejected"):
        if key not in row:
            found = ", ".join(row) or "nothing"
            raise InputError(f"{where}: a pair has `prompt`, `chosen`, `rejected`; found {found}")
        _check_messages(row[key], where, key)


def check_labelled(row: Mapping[str, Any], where: str) -> None:
    """Refuse what is not a Labelled; `where` is file:line."""
    for key in ("prompt", "completion", "label"):
        if key not in row:
            found = ", ".join(row) or "nothing"
            raise InputError(
                f"{where}: a labelled answer has `prompt`, `completion`, `label`; found {found}"
            )
    if not isinstance(row["label"], bool):
        raise InputError(f"{where}: `label` must be true or false; found {row['label']!r}")
    _check_messages(row["prompt"], where, "prompt")
    _check_messages(row["completion"], where, "completion")
