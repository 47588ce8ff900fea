"""Multiple choice by the log-probability of each option."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from llmctl.errors import InputError
from llmctl.evaluation.tasks.base import (
    Item,
    Scored,
    Task,
    draw,
    is_plain,
    nll,
    rows_of,
    too_long,
)


class ChoiceTask(Task):
    """`accuracy`: the right option is the likeliest; `probability`: its share among the options.

    Tokens are cut as lm-eval cuts them: context and option are tokenised together and the option's
    tokens are what follows the context's.
    """

    metrics: ClassVar[tuple[str, ...]] = ("accuracy", "probability")
    shares: ClassVar[frozenset[str]] = frozenset(metrics)

    data: Path = Field(
        description="Rows with `question`, `choices` (texts) and `answer` (index from 0, letter or "
        "text)."
    )
    template: str = Field(
        "Question: {question}\nAnswer:", description="What stands before an option."
    )
    separator: str = Field(" ", description="What stands between the template and an option.")
    normalise: Literal["none", "tokens", "bytes"] = Field(
        "none", description="What an option's log-probability is divided by."
    )

    @field_validator("template")
    @classmethod
    def _asks(cls, value: str) -> str:
        if "{question}" not in value:
            raise ValueError("must contain {question}")
        return value

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """The rows, each checked."""
        found = rows_of(self.data)
        for item in found:
            right(item)
        return draw(found, limit, seed)

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """The options of an item together; their context is read once where that pays."""
        for item in items:
            options = [str(option) for option in item.data["choices"]]
            rows = self.rows(session.tokenizer, item)
            wrong = too_long(session, max(len(ids) for ids, _ in rows))
            if wrong:
                yield Scored(unmeasured=wrong)
                continue
            each = [
                -total / self.length(count, option)
                for (total, count), option in zip(nll(session, rows), options, strict=True)
            ]
            best = max(each)
            answer, given = right(item), each.index(best)
            share = math.exp(each[answer] - best) / sum(math.exp(e - best) for e in each)
            yield Scored(
                {"accuracy": float(given == answer), "probability": share},
                shown={"answer": options[answer], "given": options[given], "scores": each},
            )

    def rows(self, tokenizer: Any, item: Item) -> list[tuple[list[int], list[bool]]]:
        """(ids, is a target) of each option in its context."""
        context = self.template.replace("{question}", str(item.data["question"]))
        return [cut(tokenizer, context, f"{self.separator}{o}") for o in item.data["choices"]]

    def length(self, tokens: int, option: str) -> int:
        """What the log-probability of an option is divided by."""
        return {"none": 1, "tokens": tokens, "bytes": len(option.encode())}[self.normalise]


def right(item: Item) -> int:
    """The index of the right option; raises InputError at the row when there is none."""
    for key in ("question", "choices", "answer"):
        if key not in item.data:
            raise InputError(f"{item.where}: has no `{key}`; found {', '.join(item.data)}")
    if not is_plain(item.data["question"]):
        raise InputError(f"{item.where}: `question` must be text")
    choices, answer = item.data["choices"], item.data["answer"]
    if not isinstance(choices, list) or len(choices) < 2 or not all(map(_is_option, choices)):
        raise InputError(f"{item.where}: `choices` must be a list of at least two texts")
    if isinstance(answer, int) and not isinstance(answer, bool) and 0 <= answer < len(choices):
        return answer
    if answer in choices:
        return choices.index(answer)
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[: len(choices)]
    if isinstance(answer, str) and len(answer) == 1 and answer.upper() in letters:
        return letters.index(answer.upper())
    raise InputError(
        f"{item.where}: `answer` {answer!r} is not an option: an index from 0 to "
        f"{len(choices) - 1}, a letter or one of the texts"
    )


def _is_option(value: Any) -> bool:
    return is_plain(value) and bool(str(value))


def cut(tokenizer: Any, context: str, option: str) -> tuple[list[int], list[bool]]:
    """(ids, is a target) of an option after its context; spaces at the seam go to the option."""
    spaces = len(context) - len(context.rstrip())
    if spaces:
        context, option = context[:-spaces], context[-spaces:] + option
    head = tokenizer(context, add_special_tokens=False)["input_ids"]
    ids = tokenizer(context + option, add_special_tokens=False)["input_ids"]
    return ids, [i >= len(head) for i in range(len(ids))]
