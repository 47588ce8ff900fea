"""Answers that a model writes, compared with what is right."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from llmctl.errors import InputError
from llmctl.evaluation.tasks.base import Item, Scored, Task, draw, is_plain, rows_of, too_long
from llmctl.records import check_example, check_prompt


class GenerateTask(Task):
    """Greedy answers; `exact`, `contains` and `f1` after case, articles and punctuation are gone.

    The normalisation and the F1 of words are those of SQuAD (Rajpurkar et al. 2016). Of several
    right answers the best match counts.
    """

    metrics: ClassVar[tuple[str, ...]] = ("exact", "contains", "f1")
    shares: ClassVar[frozenset[str]] = frozenset(metrics)

    data: Path = Field(
        description="Rows with `prompt` (a text or messages) and `answer` (a text or several), or "
        "with `messages` whose last turn is the answer."
    )
    max_tokens: int = Field(64, ge=1, description="Longest answer, in tokens.")
    stop: list[str] = Field(default_factory=list, description="Texts that end an answer.")
    extract: str | None = Field(
        None,
        description="Regular expression; its first group (or the match) is compared. No match is "
        "a wrong answer.",
    )

    @field_validator("extract")
    @classmethod
    def _compiles(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """The rows, each checked."""
        found = rows_of(self.data)
        for item in found:
            asked(item)
        return draw(found, limit, seed)

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """One answer for each item."""
        from llmctl.engines.base import Request

        for item in items:
            messages, answers = asked(item)
            request = Request(messages, max_tokens=self.max_tokens, stop=tuple(self.stop))
            wrong = too_long(session, session.prompt_ids(request).shape[1] + self.max_tokens)
            if wrong:
                yield Scored(unmeasured=wrong)
                continue
            reply = session.chat(messages, max_tokens=self.max_tokens, stop=tuple(self.stop))
            given = self.extracted(reply.text)
            yield Scored(
                {name: max(rule(given, a) for a in answers) for name, rule in RULES.items()},
                shown={"answer": answers[0], "given": reply.text},
            )

    def extracted(self, text: str) -> str:
        """The part of an answer that is compared; empty when `extract` finds nothing."""
        if self.extract is None:
            return text
        found = re.search(self.extract, text)
        if found is None:
            return ""
        return found[1] or "" if found.re.groups else found[0]


def asked(item: Item) -> tuple[list[dict[str, str]], list[str]]:
    """(messages, right answers) of a row; raises InputError at the row."""
    row = item.data
    if "messages" in row and "prompt" not in row:
        check_example(row, item.where)
        *prompt, last = row["messages"]
        if not prompt or last.get("role") != "assistant":
            raise InputError(f"{item.where}: `messages` must end with the assistant's right answer")
        return prompt, [str(last["content"])]
    for key in ("prompt", "answer"):
        if key not in row:
            raise InputError(f"{item.where}: has no `{key}`; found {', '.join(row)}")
    prompt, answer = row["prompt"], row["answer"]
    if isinstance(prompt, str):
        prompt = [{"role": "user", "content": prompt}]
    answers = answer if isinstance(answer, list) else [answer]
    if not prompt or not answers:
        raise InputError(f"{item.where}: the prompt or the answer is empty")
    check_prompt({"prompt": prompt}, item.where)
    if not all(map(is_plain, answers)):
        raise InputError(f"{item.where}: `answer` must be one text or several")
    return prompt, [str(each) for each in answers]


def words(text: str) -> list[str]:
    """Lower case, no punctuation, no articles."""
    bare = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", bare).split()


def _exact(given: str, answer: str) -> float:
    return float(words(given) == words(answer))


def _contains(given: str, answer: str) -> float:
    return float(f" {' '.join(words(answer))} " in f" {' '.join(words(given))} ")


def _f1(given: str, answer: str) -> float:
    one, other = words(given), words(answer)
    if not one or not other:
        return float(one == other)
    common = sum((Counter(one) & Counter(other)).values())
    return 2 * common / (len(one) + len(other))


RULES = {"exact": _exact, "contains": _contains, "f1": _f1}
