"""The promise of a filter: a row stays, or it leaves with a reason."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from llmctl.plugins import Backend
from llmctl.records import form_of

Within = Literal["question", "answer", "both"]
"""Where in a row a text is looked at."""
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
    if turns is None:
        return str(row["text"])
    return next((m["content"] for m in reversed(turns) if m["role"] == "user"), "")


def context_of(row: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(role, content) of every turn before the last answer; raw text is its own context."""
    if form_of(row) == "texts":
        return [("", row["text"])]
    turns = row.get("prompt") or row["messages"]
    if "prompt" not in row:
        answered = [at for at, turn in enumerate(turns) if turn["role"] == "assistant"]
        turns = turns[: answered[-1]] if answered else turns
    return [(turn["role"], turn["content"]) for turn in turns]


def answers_of(row: Mapping[str, Any]) -> list[str]:
    """The assistant's turns; of a pair, both sides; of raw text, the text itself."""
    form = form_of(row)
    if form == "texts":
        return [row["text"]]
    if form == "candidates":
        return [each["content"] for each in row["answers"]]
    turns = [m for name in ANSWERS[form] for m in row[name]]
    return [m["content"] for m in turns if m["role"] == "assistant"]


def answer_of(row: Mapping[str, Any]) -> str:
    """The last answer: of a pair the chosen one, of candidates the first, of raw text the text."""
    form = form_of(row)
    if form in ("texts", "candidates"):
        return answers_of(row)[0]
    turns = row[ANSWERS[form][0]]
    return next((m["content"] for m in reversed(turns) if m["role"] == "assistant"), "")


def parts_of(row: Mapping[str, Any], within: Within) -> list[str]:
    """The last question, every answer, or both."""
    parts = [] if within == "answer" else [question_of(row)]
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
