"""Anthropic's HH-RLHF: two transcripts that begin alike and end in a better and a worse answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

from llmctl.data.formats.base import Format, UnfitError, alternating, pair_of, rest, text, turn
from llmctl.data.formats.pair import shared
from llmctl.errors import InputError

SPEAKER = re.compile(r"(?:\n\n|\A\s*)(Human|Assistant):")
INSIDE = re.compile(r"\n\n(?:Human|Assistant):")
ROLE_OF = {"Human": "user", "Assistant": "assistant"}


class HhFormat(Format):
    """Turns begin with `Human:` or `Assistant:` after a blank line; spaces around them go."""

    shape: ClassVar[str] = 'chosen, rejected: "\\n\\nHuman: …\\n\\nAssistant: …"'

    @classmethod
    def claims(cls, row: Mapping[str, Any]) -> bool:
        """See Format."""
        texts = [row.get(name) for name in ("chosen", "rejected")]
        begins = str(row.get("prompt", texts[0])).lstrip().startswith("Human:")
        return all(isinstance(each, str) for each in texts) and begins

    def read(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; a pair whose answers are several turns long is unfit."""
        prompt = text(row, "prompt", where, optional=True)
        sides = [prompt + text(row, name, where) for name in ("chosen", "rejected")]
        begun, chosen, rejected = shared(*(transcript(side, where) for side in sides))
        if not begun:
            raise InputError(f"{where}: chosen and rejected do not begin with the same turn")
        for name, answer in (("chosen", chosen), ("rejected", rejected)):
            if len(answer) > 1:
                raise UnfitError("answers_of_several_turns", f"{name} has {len(answer)}")
        extra = rest(row, ("prompt", "chosen", "rejected"))
        return {"prompt": begun, "chosen": chosen, "rejected": rejected, **extra}

    def write(self, row: Mapping[str, Any], where: str) -> dict[str, Any]:
        """See Format; a system message cannot be held."""
        pair_of(row, self.kind, where)
        found = {}
        for name in ("chosen", "rejected"):
            system, said = alternating([*row["prompt"], *row[name]], self.kind, where)
            if system:
                raise InputError(f"{where}: hh cannot hold a system message; export as pair")
            if any(INSIDE.search(each.strip()) for each in said):
                raise InputError(f"{where}: hh cannot hold a text with a line 'Human:' of its own")
            names = ("Human", "Assistant")
            found[name] = "".join(
                f"\n\n{names[i % 2]}: {each.strip()}" for i, each in enumerate(said)
            )
        return found


def transcript(said: str, where: str) -> list[dict[str, Any]]:
    """The turns of a transcript."""
    before, *parts = SPEAKER.split(said)
    if before.strip() or not parts:
        raise InputError(f"{where}: a transcript begins with 'Human:', found {said[:30]!r}")
    return [
        turn(ROLE_OF[who], what.strip()) for who, what in zip(parts[::2], parts[1::2], strict=True)
    ]
