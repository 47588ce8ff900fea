"""Rows that are in form but that nothing can be learnt from, each with its reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from llmctl.records import Dropped, form_of

Reason = tuple[str, str]


def fit(rows: Iterable[Mapping[str, Any]]) -> Iterator[Mapping[str, Any] | Dropped]:
    """Every row, or why it leaves."""
    for row in rows:
        wrong = CHECKS[form_of(row)](row)
        yield Dropped(str(row["id"]), *wrong) if wrong else row


def of_example(row: Mapping[str, Any]) -> Reason | None:
    """Why a conversation cannot be learnt from."""
    turns = row["messages"]
    answers = [each for each in turns if each["role"] == "assistant"]
    if not answers:
        return "no_answer", "no turn of the assistant"
    if turns[0]["role"] == "assistant":
        return "no_prompt", "begins with the assistant"
    if not any(said(each) for each in answers):
        return "empty_answer", "every turn of the assistant is empty"
    return None


def of_pair(row: Mapping[str, Any]) -> Reason | None:
    """Why a pair cannot be learnt from."""
    if row["prompt"][-1]["role"] not in ("user", "tool"):
        return "no_question", f"the prompt ends with {row['prompt'][-1]['role']}, not the user"
    for name in ("chosen", "rejected"):
        wrong = of_answer(row[name], name)
        if wrong:
            return wrong
    if row["chosen"][0]["content"].strip() == row["rejected"][0]["content"].strip():
        return "identical_answers", "chosen and rejected are the same text"
    return None


def of_labelled(row: Mapping[str, Any]) -> Reason | None:
    """Why a labelled answer cannot be learnt from."""
    return of_answer(row["completion"], "completion")


def of_answer(messages: Sequence[Mapping[str, Any]], name: str) -> Reason | None:
    """Why messages are not one answer of the assistant."""
    if len(messages) != 1:
        return "answers_of_several_turns", f"{name} has {len(messages)}"
    if messages[0]["role"] != "assistant":
        return "no_answer", f"{name} is a turn of {messages[0]['role']}"
    return None if said(messages[0]) else ("empty_answer", name)


def of_candidates(row: Mapping[str, Any]) -> Reason | None:
    """Why candidates cannot be compared."""
    different = {each["content"].strip() for each in row["answers"]}
    if len(different) < 2:
        return "too_few_answers", "all answers are the same"
    return None


def of_text(row: Mapping[str, Any]) -> Reason | None:
    """Why a text cannot be learnt from."""
    return None if row["text"].strip() else ("empty_text", "")


def said(message: Mapping[str, Any]) -> bool:
    """Whether a turn says anything, be it by calling a tool."""
    return bool(message["content"].strip() or message.get("tool_calls"))


CHECKS = {
    "examples": of_example,
    "pairs": of_pair,
    "labelled": of_labelled,
    "candidates": of_candidates,
    "texts": of_text,
}
