"""Evol-Instruct: instructions made harder or varied step by step, and answered.

WizardLM (Xu et al. 2023, arXiv 2304.12244): in-depth evolving adds constraints, deepens, makes
concrete, asks for more steps of reasoning or complicates the input; in-breadth evolving writes a
new instruction of the same kind. Section 2.2 of the paper lists when an evolution has failed.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.data.builders._model import RowBuilder, told
from llmctl.data.material import Row
from llmctl.generation.asking import Refused, Writer
from llmctl.generation.forms import TEXT, record
from llmctl.records import Dropped, Message, example

Depth = Literal["constraints", "deepen", "concretise", "reason", "complicate"]
DEPTH: tuple[Depth, ...] = ("constraints", "deepen", "concretise", "reason", "complicate")
Method = Depth | Literal["breadth"]
COPIED = re.compile(
    r"\b(?:given|rewritten|created|evolved|original) (?:prompt|instruction)s?\b"
    r"|#\s*(?:the )?(?:given|rewritten|created|new) (?:prompt|instruction)",
    re.IGNORECASE,
)
_LITTLE = """
a an and are as at be but by can do does for from had has have he her his i if in is it its
me my no not of on or our she so that the their them there they this to too was we were what
when where which who why will with you your
"""
STOP_WORDS = frozenset(_LITTLE.split())
SORRY_WORDS = 80
"""A shorter answer with 'sorry' in it is one that the model could not give."""


class EvolBuilder(RowBuilder):
    """Each row is kept, and each evolution of it that succeeds is added.

    A failed one is dropped with its reason, and the next round begins at the same instruction, as
    in the paper.
    """

    blocks: ClassVar[tuple[str, ...]] = (*DEPTH, "breadth", "equal", "answer")

    rounds: int = Field(1, ge=1, le=10, description="Evolutions of each row, one after another.")
    methods: list[Method] = Field(
        [*DEPTH, "breadth"], min_length=1, description="How to evolve; drawn with the seed."
    )
    compare: bool = Field(
        True, description="Ask the model whether an evolution asks for anything new."
    )
    keep: bool = Field(True, description="Whether the rows that were evolved stay.")

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        if self.keep:
            yield item
        parent, depth = item, int(item.get("meta", {}).get("evolution", {}).get("depth", 0))
        for number in range(self.rounds):
            random = Random(f"{writer.options['seed']}\0{item['id']}\0{number}")
            method = random.choice(self.methods)
            try:
                made = self.evolved(writer, parent, method, number)
            except Refused as refused:
                yield Dropped(f"{item['id']}:{number + 1}", refused.reason, refused.detail)
                continue
            depth = depth + 1 if method in DEPTH else 0
            steps = {"depth": depth, "round": number + 1, "method": method,
                     "from": parent["id"], "root": item["id"]}  # fmt: skip
            meta = self.meta_after(writer, parent, evolution=steps)
            parent = example(made, item["source"], meta)
            yield parent

    def evolved(self, writer: Writer, parent: Row, method: str, number: int) -> list[Message]:
        """The messages of an evolution; raises Refused when it has failed.

        Of a conversation the last instruction evolves, and all before it stays.
        """
        turns: list[Message] = parent["messages"]
        asked = max((n for n, each in enumerate(turns) if each["role"] == "user"), default=None)
        if asked is None:
            raise Refused("no_instruction", "no turn is the user's")
        before, old = turns[:asked], turns[asked]["content"]
        about = {
            "context": parent.get("meta", {}).get("context", ""),
            "conversation": told(before),
        }
        known = {"instruction": old, "sample": number, **about}
        new = writer.write(method, record(instruction=TEXT), **known)["instruction"].strip()
        check_instruction(old, new)
        if self.compare:
            form = record(verdict={"type": "string", "enum": ["different", "equal"]})
            verdict = writer.write("equal", form, first=old, second=new)["verdict"]
            if verdict == "equal":
                raise Refused("evol_no_gain", new[:200])
        answer = writer.write("answer", instruction=new, **about)
        check_answer(answer)
        return [
            *before,
            {"role": "user", "content": new},
            {"role": "assistant", "content": answer},
        ]


def check_instruction(old: str, new: str) -> None:
    """Refuse what asks for nothing new and what repeats the words of the prompt."""
    if fold(old) == fold(new):
        raise Refused("evol_no_gain", new[:200])
    copied = COPIED.search(new)
    if copied and not COPIED.search(old):
        raise Refused("evol_copies_prompt", copied[0])


def check_answer(answer: str) -> None:
    """Refuse an answer that says sorry in a few words, or nothing at all."""
    words = fold(answer)
    if "sorry" in words and len(words) < SORRY_WORDS:
        raise Refused("evol_sorry", answer[:200])
    if all(word in STOP_WORDS for word in words):
        raise Refused("evol_says_nothing", answer[:200])


def fold(text: str) -> list[str]:
    """The words of a text, without case and punctuation."""
    return re.findall(r"\w+", text.casefold())
