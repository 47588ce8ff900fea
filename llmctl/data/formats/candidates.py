"""Several answers to one prompt, with the votes on them if there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, answered, kind_of, rest, turn, with_tools
from llmctl.data.formats.prompt_completion import turns
from llmctl.errors import InputError


class CandidatesFormat(Format):
    """`{prompt, answers: [text or {content, …}], votes: [{between, winner}]}`."""

    shape: ClassVar[str] = "prompt, answers: [text, text, …]"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return "prompt" in row and isinstance(row.get("answers"), list)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        given = row.get("answers")
        if not isinstance(given, list) or not given:
            raise InputError(f"{where}: `answers` must be a non-empty list")
        answers = [_answer(each, f"{where}: answers.{n}") for n, each in enumerate(given)]
        found = {"prompt": turns(row, "prompt", "user", where), "answers": answers}
        if row.get("votes"):
            if not isinstance(row["votes"], list):
                raise InputError(f"{where}: `votes` is {kind_of(row['votes'])}, no list")
            found["votes"] = [
                vote(each, len(answers), f"{where}: votes.{n}")
                for n, each in enumerate(row["votes"])
            ]
        return {**found, **rest(row, ("prompt", "answers", "votes"))}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        if "answers" not in row:
            raise InputError(f"{where}: candidates holds several answers; this row has none")
        answers = [each["content"] if set(each) == {"content"} else each for each in row["answers"]]
        plain = answered(row["prompt"], [turn("assistant", "")])
        prompt = row["prompt"][0]["content"] if plain else row["prompt"]
        found = {"prompt": prompt, "answers": answers}
        return found | ({"votes": row["votes"]} if row.get("votes") else {}) | with_tools(row)


def _answer(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, str):
        return {"content": value}
    if not isinstance(value, Mapping) or not isinstance(value.get("content"), str):
        raise InputError(f"{where} is {kind_of(value)}, text or an object with `content` is needed")
    for name in ("up", "down"):
        if type(value.get(name, 0)) is not int:
            raise InputError(f"{where}: `{name}` is {kind_of(value[name])}, a count is needed")
    return dict(value)


def vote(value: Any, answers: int, where: str) -> dict[str, Any]:
    """A vote, checked: between which two answers, and which of them won (null for a tie)."""
    between = value.get("between") if isinstance(value, Mapping) else None
    good = isinstance(between, list) and len(between) == 2 and between[0] != between[1]
    if not good or not all(type(n) is int and 0 <= n < answers for n in between or ()):
        raise InputError(
            f"{where}: `between` must be the numbers of two of the {answers} answers, from 0"
        )
    winner = value.get("winner")
    if winner is not None and winner not in (between or ()):
        raise InputError(f"{where}: `winner` must be one of {between}, or null for a tie")
    return {**value, "winner": winner}
