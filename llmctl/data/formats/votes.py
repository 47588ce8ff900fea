"""Two answers and which of them won, as arenas and annotation tools write it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, UnfitError, rest, text, with_tools
from llmctl.data.formats.pair import shared
from llmctl.data.formats.prompt_completion import turns
from llmctl.errors import InputError

SIDES = (
    ("answer_a", "answer_b"),
    ("response_a", "response_b"),
    ("conversation_a", "conversation_b"),
)
VERDICT = ("vote", "winner")
WINNER = {"a": 0, "model_a": 0, "b": 1, "model_b": 1, "tie": None, "tie (bothbad)": None}
"""A vote as it is written -> the number of the answer that won; None for a tie."""


class VotesFormat(Format):
    """`{prompt, answer_a, answer_b, vote: a | b | tie}`; also `conversation_a` … with `winner`."""

    shape: ClassVar[str] = "prompt, answer_a, answer_b, vote"

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        sides = any(set(each) <= row.keys() for each in SIDES)
        return sides and any(name in row for name in VERDICT)

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; the answers and the one vote on them."""
        names = next((each for each in SIDES if set(each) <= row.keys()), None)
        if names is None:
            raise InputError(f"{where}: has no two answers: {' or '.join(map(str, SIDES))}")
        verdict = next((name for name in VERDICT if name in row), "vote")
        said = text(row, verdict, where).strip().lower()
        if said == "skip":
            raise UnfitError("skipped", "nobody voted")
        if said not in WINNER:
            raise InputError(f"{where}: `{verdict}` is '{said}'; there are: {', '.join(WINNER)}")
        if names == SIDES[2]:
            prompt, *answers = shared(*(turns(row, name, "assistant", where) for name in names))
        else:
            prompt = turns(row, "prompt", "user", where)
            answers = [turns(row, name, "assistant", where) for name in names]
        if not prompt:
            raise InputError(f"{where}: the answers share no prompt, and none is given")
        if any(len(each) != 1 for each in answers):
            raise UnfitError("answers_of_several_turns", f"{len(answers[0])} and {len(answers[1])}")
        models = [row.get("model_a"), row.get("model_b")]
        found = [
            {"content": each[0]["content"]} | ({"model": model} if model else {})
            for each, model in zip(answers, models, strict=True)
        ]
        one = {"between": [0, 1], "winner": WINNER[said]}
        used = (*names, verdict, "prompt", "model_a", "model_b", "annotator")
        one |= {"annotator": row["annotator"]} if row.get("annotator") else {}
        return {"prompt": prompt, "answers": found, "votes": [one], **rest(row, used)}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; two answers with one vote."""
        if len(row.get("answers", ())) != 2 or len(row.get("votes", ())) != 1:
            raise InputError(f"{where}: votes holds two answers and one vote; this row is other")
        winner = row["votes"][0]["winner"]
        turns_of = [[{"role": "assistant", "content": each["content"]}] for each in row["answers"]]
        plain = [m["role"] for m in row["prompt"]] == ["user"]
        found = {
            "prompt": row["prompt"][0]["content"] if plain else row["prompt"],
            "answer_a": row["answers"][0]["content"] if plain else turns_of[0],
            "answer_b": row["answers"][1]["content"] if plain else turns_of[1],
            "vote": "tie" if winner is None else "ab"[winner],
        }
        models = [each.get("model") for each in row["answers"]]
        found |= {name: m for name, m in zip(("model_a", "model_b"), models, strict=True) if m}
        who = row["votes"][0].get("annotator")
        return found | ({"annotator": who} if who else {}) | with_tools(row)
