"""The promise of a filter: a row stays, or it leaves with a reason."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from llmctl.plugins import Backend
from llmctl.records import form_of

Turns = Sequence[Mapping[str, Any]]
Within = Literal["question", "answer", "both"]
"""Where in a row a text is looked at."""
Side = Literal["chosen", "both"]
"""Which answers are looked at: those to be learnt, or the worse ones of pairs too."""
SIDE = (
    "Answers that are looked at: `chosen` passes over those of pairs that were rejected and those "
    "labelled as bad, and lets candidates stay while one of them is in order."
)
Verdict = str | None
"""None keeps the row; else the detail of why it leaves (the reason is the filter's kind)."""


class Filter(Backend):
    """Looks at one row at a time, in order."""

    @abstractmethod
    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """A fresh judge for one run; it may remember the rows that it has seen."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Own key -> file or model reference, for the recipe's inputs."""
        return {}


ANSWERS = {
    "examples": ("messages",),
    "pairs": ("chosen", "rejected"),
    "labelled": ("completion",),
}
"""Form of a row -> where its answers are."""


def question_of(row: Mapping[str, Any]) -> str:
    """The last user turn; of raw text, the text itself."""
    turns = row.get("prompt") or row.get("messages")
    return str(row["text"]) if turns is None else last_of(turns, "user")


def last_of(turns: Turns, role: str) -> str:
    """What was said last in a role."""
    return next((m["content"] for m in reversed(turns) if m["role"] == role), "")


def context_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(role, text) of every turn before the last answer; raw text is its own context."""
    if form_of(row) == "texts":
        return [("", row["text"])]
    turns = row.get("prompt") or row["messages"]
    if "prompt" not in row:
        answered = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
        turns = turns[: answered[-1]] if answered else turns
    return [(turn["role"], spoken(turn)) for turn in turns]


def turns_of(row: Mapping[str, Any], keys: Sequence[str]) -> list[Mapping[str, Any]]:
    """The turns under these keys of a row, as far as it has them."""
    return [turn for key in keys for turn in row.get(key) or ()]


def calls_of(row: Mapping[str, Any]) -> list[str]:
    """The calls of tools in all turns, as JSON."""
    turns = turns_of(row, ("messages", "prompt", "chosen", "rejected", "completion"))
    return [json.dumps(t["tool_calls"], ensure_ascii=False) for t in turns if t.get("tool_calls")]


def spoken(turn: Mapping[str, Any]) -> str:
    """What a turn says, and the tools that it calls as JSON."""
    return "\n".join([turn["content"], *calls_of({"messages": [turn]})])


def exchanges_of(row: Mapping[str, Any], side: Side = "both") -> list[tuple[Turns, str]]:
    """(the turns before it, an answer) of each answer; raw text answers to nothing.

    A turn that only calls tools is no answer: it has no words.
    """
    form = form_of(row)
    if form == "texts":
        return [((), row["text"])]
    if form == "candidates":
        return [(row["prompt"], each["content"]) for each in row["answers"]]
    names = ANSWERS[form]
    if side == "chosen":
        names = names[:1] if row.get("label", True) else ()
    begun: Turns = () if form == "examples" else row["prompt"]
    talks = [[*begun, *row[name]] for name in names]
    return [
        (turns[:at], turns[at]["content"])
        for turns in talks
        for at in range(len(begun), len(turns))
        if turns[at]["role"] == "assistant"
        and (turns[at]["content"].strip() or not turns[at].get("tool_calls"))
    ]


def answers_of(row: Mapping[str, Any]) -> list[str]:
    """The assistant's turns; of a pair, both sides; of raw text, the text itself."""
    return [answer for _, answer in exchanges_of(row)]


def fault_of(row: Mapping[str, Any], side: Side, judge: Callable[[Turns, str], Verdict]) -> Verdict:
    """The first fault of the answers of a side; a judge sees the turns before and the answer."""
    faults: Iterator[Verdict] = (judge(*each) for each in exchanges_of(row, side))
    if side == "chosen" and form_of(row) == "candidates":
        found = list(faults)
        return found[0] if found and None not in found else None
    return next((each for each in faults if each is not None), None)


def answer_of(row: Mapping[str, Any]) -> str:
    """The last answer: of a pair the chosen one, of candidates the first, of raw text the text."""
    form = form_of(row)
    if form in ("texts", "candidates"):
        return answers_of(row)[0]
    return last_of(row[ANSWERS[form][0]], "assistant")


def asked_of(row: Mapping[str, Any]) -> list[str]:
    """Every turn that is no answer: the system's, the users', and all of a prompt."""
    if form_of(row) == "texts":
        return []
    if "prompt" in row:
        return [turn["content"] for turn in row["prompt"]]
    return [turn["content"] for turn in row["messages"] if turn["role"] != "assistant"]


def parts_of(row: Mapping[str, Any], within: Within) -> list[str]:
    """All that was asked, every answer, or both; raw text is one part."""
    if form_of(row) == "texts":
        return [row["text"]]
    parts = [] if within == "answer" else asked_of(row)
    return parts + ([] if within == "question" else answers_of(row))


def text_of(row: Mapping[str, Any], within: Within) -> str:
    """The last question, the last answer or both; of raw text, the text itself."""
    if form_of(row) == "texts":
        return str(row["text"])
    parts = [] if within == "answer" else [question_of(row)]
    parts += [] if within == "question" else [answer_of(row)]
    return "\n\n".join(parts)


def field_of(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field such as `meta.reference`; None when it is not there."""
    found: Any = row
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
