"""Alpaca: `instruction`, `input` and `output`, with `system` and `history` where there are any."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import (
    Format,
    alternating,
    dialogue,
    example_of,
    kind_of,
    rest,
    split_answer,
    text,
)
from llmctl.errors import InputError


class AlpacaFormat(Format):
    """`input` follows the instruction after a blank line; `history` is a list of earlier turns."""

    shape: ClassVar[str] = "instruction, input, output"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        return {"instruction", "output"} <= row.keys()

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format."""
        asked = text(row, "instruction", where)
        given = text(row, "input", where, optional=True)
        turns = [*_history(row, where), f"{asked}\n\n{given}" if given else asked]
        system = text(row, "system", where, optional=True)
        messages = dialogue(system, *turns, text(row, "output", where))
        used = ("instruction", "input", "output", "system", "history")
        return {"messages": messages, **rest(row, used)}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; the whole question is the instruction."""
        messages = example_of(row, self.kind, where)
        split_answer(messages, where)
        system, turns = alternating(messages, self.kind, where)
        *earlier, asked, answer = turns
        found: dict[str, Any] = {"instruction": asked, "input": "", "output": answer}
        if system:
            found["system"] = system
        if earlier:
            found["history"] = [list(each) for each in zip(*[iter(earlier)] * 2, strict=True)]
        return found


def _history(row: Mapping[str, Any], where: str) -> list[str]:
    history = row.get("history") or []
    if not isinstance(history, list):
        raise InputError(f"{where}: `history` is {kind_of(history)}, a list is needed")
    for each in history:
        good = isinstance(each, list) and len(each) == 2 and all(isinstance(t, str) for t in each)
        if not good:
            raise InputError(f"{where}: `history` must be a list of [question, answer]")
    return [said for each in history for said in each]
