"""Pairs: checks before training, tokens, and how often a model prefers the better answer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from llmctl.errors import InputError
from llmctl.records import check_pair, row_id
from llmctl.training import measure
from llmctl.training.data import encode, render
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


def check(row: dict[str, Any], where: str) -> None:
    """Refuse a pair that teaches nothing or whose answers do not belong to its prompt."""
    check_pair(row, where)
    if row["prompt"][-1]["role"] not in ("user", "tool"):
        raise InputError(f"{where}: the prompt ends with {row['prompt'][-1]['role']}, not the user")
    for name in ("chosen", "rejected"):
        if row[name][0] == row["prompt"][0]:
            raise InputError(
                f"{where}: `{name}` repeats the prompt; it must hold the answer only, so that both "
                f"answers have the same prompt"
            )
        if len(row[name]) != 1 or row[name][0]["role"] != "assistant":
            raise InputError(f"{where}: `{name}` must be one message of the assistant")
        if not row[name][0]["content"].strip():
            raise InputError(f"{where}: `{name}` is an empty answer")


def same(row: dict[str, Any]) -> bool:
    """Whether the two answers are the same, so that nothing can be learnt from the pair."""
    return bool(row["chosen"][0]["content"].strip() == row["rejected"][0]["content"].strip())


def tokens_of(tokenizer: PreTrainedTokenizerBase, row: dict[str, Any], where: str) -> PairTokens:
    """The tokens of a pair; each answer is what the template adds to the opened turn."""
    prompt = render(tokenizer, row["prompt"], prompt=True)
    answers = []
    for name in ("chosen", "rejected"):
        text = render(tokenizer, [*row["prompt"], *row[name]])
        if not text.startswith(prompt):
            raise InputError(f"{where}: the chat template changes the prompt once it is answered")
        answers.append(text)
    ids = encode(tokenizer, prompt)[0]
    full = [encode(tokenizer, text)[0] for text in answers]
    shared = min(_common(ids, full[0]), _common(ids, full[1]))  # an answer may merge with the seam
    chosen, rejected = full[0][shared:], full[1][shared:]
    identity = str(row.get("id") or row_id(*answers))
    return PairTokens(identity, ids[:shared], chosen, rejected)


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
