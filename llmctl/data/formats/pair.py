"""`prompt`, `chosen`, `rejected`, as texts or messages: llmctl's own pairs and TRL's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, answered, pair_of, with_tools
from llmctl.data.formats.prompt_completion import turns
from llmctl.errors import InputError


class PairFormat(Format):
    """Answers that repeat the prompt, and a prompt that is only in the answers, are understood."""

    shape: ClassVar[str] = "prompt, chosen, rejected"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        if not {"chosen", "rejected"} <= row.keys() or "conversations" in row:
            return False
        listed = isinstance(row["chosen"], list)
        transcript = any(
            str(row.get(k)).lstrip().startswith("Human:") for k in ("prompt", "chosen")
        )
        return ("prompt" in row or listed) and not transcript and "score_chosen" not in row

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; keys beside the three stay where they are."""
        answers = {name: turns(row, name, "assistant", where) for name in ("chosen", "rejected")}
        if "prompt" in row:
            prompt = turns(row, "prompt", "user", where)
            for name, answer in answers.items():
                if len(answer) > len(prompt) and answer[: len(prompt)] == prompt:
                    answers[name] = answer[len(prompt) :]
        else:
            prompt, answers["chosen"], answers["rejected"] = shared(*answers.values())
            if not prompt:
                raise InputError(f"{where}: chosen and rejected share no prompt, and none is given")
        others = {key: value for key, value in row.items() if key != "messages"}
        return {**others, "prompt": prompt, **answers}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; texts where one question and two answers are all there is."""
        pair_of(row, self.kind, where, tools=True)
        names = ("prompt", "chosen", "rejected")
        plain = all(answered(row["prompt"], row[name]) for name in names[1:])
        if plain and not row.get("tools"):
            return {name: row[name][0]["content"] for name in names}
        return {**{name: row[name] for name in names}, **with_tools(row)}


def shared(
    one: list[dict[str, Any]], other: list[dict[str, Any]]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    """(turns that two conversations begin with, what each has after them)."""
    count = 0
    most = min(len(one), len(other)) - 1  # equal conversations still end in an answer each
    while count < most and one[count] == other[count]:
        count += 1
    return one[:count], one[count:], other[count:]
