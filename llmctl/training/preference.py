"""Pairs and labelled answers as tokens, and how often a model prefers the better answer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmctl.errors import InputError
from llmctl.records import row_id
from llmctl.training import measure
from llmctl.training.data import encode, refusals, render
from llmctl.training.measure import Mean, mean


@dataclass(frozen=True)
class PairTokens:
    """A pair as the model sees it: one prompt, two answers with their end of turn."""

    id: str
    prompt: list[int]
    chosen: list[int]
    rejected: list[int]

    @property
    def longest(self) -> int:
        """Tokens of the prompt with the longer answer."""
        return len(self.prompt) + max(len(self.chosen), len(self.rejected))


@dataclass(frozen=True)
class LabelledTokens:
    """One answer as the model sees it, and whether it is a good one."""

    id: str
    prompt: list[int]
    answer: list[int]
    good: bool


def tokens_of(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], where: str) -> PairTokens:
    """The tokens of a pair; each answer is what the template adds to the opened turn."""
    prompt, (chosen, rejected), texts = _answers(
        tokenizer, row["prompt"], [row["chosen"], row["rejected"]], where
    )
    return PairTokens(str(row.get("id") or row_id(*texts)), prompt, chosen, rejected)


def labelled_of(
    tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], where: str
) -> LabelledTokens:
    """The tokens of a labelled answer."""
    prompt, (answer,), texts = _answers(tokenizer, row["prompt"], [row["completion"]], where)
    identity = str(row.get("id") or row_id(*texts, str(row["label"])))
    return LabelledTokens(identity, prompt, answer, row["label"])


def _answers(
    tokenizer: PreTrainedTokenizerBase,
    messages: Sequence[dict[str, Any]],
    answers: Sequence[Sequence[dict[str, Any]]],
    where: str,
) -> tuple[list[int], list[list[int]], list[str]]:
    """(tokens of the prompt, tokens of each answer, the rendered texts)."""
    with refusals(tokenizer, where):
        prompt = render(tokenizer, messages, prompt=True)
        texts = [render(tokenizer, [*messages, *answer]) for answer in answers]
    if not all(text.startswith(prompt) for text in texts):
        raise InputError(f"{where}: the chat template changes the prompt once it is answered")
    ids = encode(tokenizer, prompt)[0]
    full = []
    for text in texts:
        found, ends = encode(tokenizer, text)
        last = next(i for i, end in enumerate(ends) if end >= len(text.rstrip()))
        if found[last] not in tokenizer.all_special_ids:
            raise InputError(
                f"{where}: the chat template ends the answer with no special token, so the model "
                f"would not learn to stop; use a model with an end-of-turn token"
            )
        full.append(found)  # with what stands behind the end of turn, as TRL's trainers have it
    shared = min(_common(ids, each) for each in full)  # an answer may merge with the seam
    return ids[:shared], [each[shared:] for each in full], texts


def marks(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """The special tokens that the chat template writes; an answer must not hold one."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    text = render(tokenizer, turns)
    return [mark for mark in tokenizer.all_special_tokens if mark.strip() and mark in text]


def _common(one: list[int], other: list[int]) -> int:
    """Length of the common beginning."""
    for index, (a, b) in enumerate(zip(one, other, strict=False)):
        if a != b:
            return index
    return min(len(one), len(other))


Scores = list[tuple[float, int, float, int]]
"""(log-probability in nats, tokens) of the chosen and then the rejected answer of each pair."""


def scores(model: Any, pairs: Sequence[PairTokens], label: str) -> Scores:
    """Log-probabilities of both answers of each pair."""
    rows = []
    for pair in pairs:
        for answer in (pair.chosen, pair.rejected):
            mask = [False] * len(pair.prompt) + [True] * len(answer)
            rows.append((pair.prompt + answer, mask))
    flat = measure.log_probabilities(model, rows, label)
    return [(*flat[i], *flat[i + 1]) for i in range(0, len(flat), 2)]


def answer_scores(
    model: Any, answers: Sequence[LabelledTokens], label: str
) -> list[tuple[float, int]]:
    """(log-probability in nats, tokens) of each labelled answer."""
    rows = [
        (each.prompt + each.answer, [False] * len(each.prompt) + [True] * len(each.answer))
        for each in answers
    ]
    return measure.log_probabilities(model, rows, label)


def eval_loss(before: Any, after: Any, good: Sequence[bool], beta: float) -> dict[str, float]:
    """DPO's loss on the held-out rows, in nats, and how often the implicit reward is right.

    Of labelled answers the margin is the reward itself, counted down for a bad one.
    """
    if good:
        margins = [
            beta * (a[0] - b[0]) * (1 if g else -1)
            for b, a, g in zip(before, after, good, strict=True)
        ]
    else:
        margins = [
            beta * ((a[0] - b[0]) - (a[2] - b[2])) for b, a in zip(before, after, strict=True)
        ]
    losses = [math.log1p(math.exp(-abs(m))) + max(-m, 0.0) for m in margins]
    n = len(margins)
    return {"eval_loss": sum(losses) / n, "eval_reward_accuracy": sum(m > 0 for m in margins) / n}


def compare_labelled(
    before: Sequence[tuple[float, int]],
    after: Sequence[tuple[float, int]],
    good: Sequence[bool],
    beta: float,
) -> dict[str, Mean]:
    """The implicit reward of good and of bad answers, and how often its sign fits the label.

    The two classes are independent samples, so the error of their difference adds in squares.
    """
    rewards = [beta * (a[0] - b[0]) for b, a in zip(before, after, strict=True)]
    sides = [[r for r, g in zip(rewards, good, strict=True) if g is side] for side in (True, False)]
    found = {
        "reward_accuracy": mean([float((r > 0) is g) for r, g in zip(rewards, good, strict=True)])
    }
    if all(sides):
        up, down = mean(sides[0]), mean(sides[1])
        error = math.hypot(up.error, down.error)
        found |= {
            "reward_good": up,
            "reward_bad": down,
            "reward_margin": Mean(up.value - down.value, error, len(rewards)),
        }
    return found


def preferred_per_token(found: Scores) -> list[float]:
    """1 for each pair whose better answer is the likelier one per token: length does not count."""
    return [float(c / max(cn, 1) > r / max(rn, 1)) for c, cn, r, rn in found]


def preferred_sum(found: Scores) -> list[float]:
    """1 for each pair whose better answer is the likelier one as a whole: short answers gain."""
    return [float(c > r) for c, _, r, _ in found]


def compare(before: Scores, after: Scores, beta: float) -> dict[str, Mean]:
    """Preference before and after with paired differences, and DPO's implicit reward.

    `preference` compares per token and is the headline: a whole answer's probability falls with
    every token, so `preference_sum` mostly tells which answer is shorter.

    The reward of an answer is beta * (log-probability after - before), in nats (Rafailov et al.
    2023); its accuracy is the share of pairs where the better answer gained more.
    """
    result: dict[str, Mean] = {}
    rules = {"preference": preferred_per_token, "preference_sum": preferred_sum}
    for name, rule in rules.items():
        first, last = rule(before), rule(after)
        result[f"{name}_before"] = mean(first)
        result[f"{name}_after"] = mean(last)
        result[f"{name}_diff"] = mean([b - a for a, b in zip(first, last, strict=True)])
    margins = [beta * ((a[0] - b[0]) - (a[2] - b[2])) for b, a in zip(before, after, strict=True)]
    result["reward_accuracy"] = mean([float(margin > 0) for margin in margins])
    result["reward_margin"] = mean(margins)
    return result
