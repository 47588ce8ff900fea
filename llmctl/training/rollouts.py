"""Prompts, answers that a model samples to them, and what these are worth."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from llmctl import ui
from llmctl.artifact import Artifact
from llmctl.errors import InputError, LlmctlError
from llmctl.judges.base import Answered, beside
from llmctl.records import row_id
from llmctl.rewards.base import Rate, Reward
from llmctl.schema.dpo import DpoRecipe
from llmctl.training import data, pair_checks, preference_rows, sources
from llmctl.training.sources import Rows

SAMPLED_AT_ONCE = 16
"""Answers in one call of `generate`."""


@dataclass(frozen=True)
class Prompt:
    """A conversation up to the answer; `row` is what the rewards may read of it."""

    id: str
    messages: list[dict[str, Any]]
    ids: list[int]
    row: dict[str, Any]

    def answered(self, text: str) -> Answered:
        """The prompt with an answer, for a judge; the row may name a right one."""
        return Answered(self.id, self.messages, text, **beside(self.row))


def read(
    recipe: DpoRecipe, artifact: Artifact, tokenizer: Any
) -> tuple[list[Prompt], list[Prompt]]:
    """(prompts to learn on, prompts to measure with); writes dropped.jsonl.

    Pairs, labelled answers and conversations give their prompts too; their answers are not read.
    """
    rows, held_rows = sources.split(recipe.data, recipe.seed, artifact)
    data.check_template(tokenizer, recipe.model)
    rows, held_rows = ([(where, asked(row)) for where, row in each] for each in (rows, held_rows))
    pair_checks.refuse([*rows, *held_rows], pair_checks.prompt_faults)
    train, held = encoded(rows, tokenizer), encoded(held_rows, tokenizer)
    left = reasons(rows, train, held_rows, recipe.max_length)
    preference_rows.leave(artifact, rows, left)
    train = [each for at, each in enumerate(train) if at not in left]
    held = [each for each in held if len(each.ids) < recipe.max_length]
    artifact.metrics |= {"train_rows": len(train), "held_out_rows": len(held)}
    artifact.summary.append(("prompts", f"{len(train)}, {len(left)} left out"))
    return train, held


def asked(row: dict[str, Any]) -> dict[str, Any]:
    """The row with `prompt`: of a conversation, what comes before its last answer."""
    if "prompt" in row or not isinstance(row.get("messages"), list):
        return row if "prompt" in row else {**row, "prompt": None}
    turns = list(row["messages"])
    while turns and isinstance(turns[-1], dict) and turns[-1].get("role") == "assistant":
        turns.pop()
    return {**row, "prompt": turns}


def encoded(rows: Rows, tokenizer: Any) -> list[Prompt]:
    """The prompts with the assistant's turn opened."""
    found = []
    for where, row in rows:
        with data.refusals(tokenizer, where):
            text = data.render(tokenizer, row["prompt"], prompt=True)
        name = str(row.get("id") or row_id(text))
        found.append(Prompt(name, row["prompt"], data.encode(tokenizer, text)[0], row))
    return found


def reasons(rows: Rows, prompts: Sequence[Prompt], held: Rows, limit: int) -> pair_checks.Reasons:
    """Prompts that are held out too, or leave no room."""
    known = {pair_checks.question(row["prompt"]) for _, row in held}
    found: pair_checks.Reasons = {}
    for at, ((_, row), prompt) in enumerate(zip(rows, prompts, strict=True)):
        if pair_checks.question(row["prompt"]) in known:
            found[at] = ("in_held_out", "its prompt is in the held-out rows")
        elif len(prompt.ids) >= limit:
            found[at] = ("too_long", f"{len(prompt.ids)} >= {limit} tokens")
    return found


@torch.no_grad()
def sample(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Prompt],
    most: int,
    temperature: float,
    seed: int | None = None,
) -> list[list[int]]:
    """The tokens of an answer to each prompt, with the end of turn where there is one.

    With a seed the global random state is left as it was; 0 as temperature takes the likeliest.
    """
    model.eval()
    if seed is not None:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return sample(model, tokenizer, prompts, most, temperature)
    found: list[list[int]] = []
    pad = tokenizer.pad_token_id
    ends = {tokenizer.eos_token_id}
    configured = model.generation_config.eos_token_id
    ends |= set(configured if isinstance(configured, list) else [configured]) - {None}
    how: dict[str, Any] = {"do_sample": True, "temperature": temperature, "top_k": 0, "top_p": 1.0}
    if temperature == 0:
        how = {"do_sample": False, "temperature": None, "top_k": None, "top_p": None}
    for start in range(0, len(prompts), SAMPLED_AT_ONCE):
        batch = prompts[start : start + SAMPLED_AT_ONCE]
        width = max(len(each.ids) for each in batch)
        ids = [[pad] * (width - len(each.ids)) + each.ids for each in batch]
        seen = [[0] * (width - len(each.ids)) + [1] * len(each.ids) for each in batch]
        out = model.generate(
            input_ids=torch.tensor(ids, device=model.device),
            attention_mask=torch.tensor(seen, device=model.device),
            max_new_tokens=most, use_cache=True, pad_token_id=pad, eos_token_id=sorted(ends), **how,
        )  # fmt: skip
        for row in out[:, width:].tolist():
            stop = next((at for at, token in enumerate(row) if token in ends), len(row) - 1)
            found.append(row[: stop + 1])
    return found


@contextmanager
def rating(rewards: Sequence[Reward], scratch: Path) -> Iterator[list[Rate]]:
    """All rewards, ready."""
    with ExitStack() as stack:
        yield [stack.enter_context(r.open(scratch / "rewards.sqlite")) for r in rewards]


def total(rewards: Sequence[Reward], rated: Sequence[Sequence[float | None]]) -> list[float | None]:
    """The weighted sum of each answer; None where no reward could be told."""
    found: list[float | None] = []
    for each in zip(*rated, strict=True):
        told = [r.weight * v for r, v in zip(rewards, each, strict=True) if v is not None]
        found.append(sum(told) if told else None)
    return found


def names(rewards: Sequence[Reward]) -> list[str]:
    """A name for each reward: its kind, numbered where there are several of it."""
    kinds = [reward.kind for reward in rewards]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}_{kinds[:at].count(kind) + 1}"
        for at, kind in enumerate(kinds)
    ]


@dataclass(frozen=True)
class Measured:
    """Answers to the held-out prompts: their tokens, texts and rewards."""

    answers: list[list[int]]
    texts: list[str]
    rewards: list[float | None]

    def dump(self) -> dict[str, Any]:
        """As JSON."""
        return {"answers": self.answers, "texts": self.texts, "rewards": self.rewards}


def measured(
    model: Any,
    tokenizer: Any,
    held: Sequence[Prompt],
    objective: Any,
    rates: Sequence[Rate],
    seed: int,
) -> Measured:
    """What the model answers to the held-out prompts, and what that is worth."""
    answers = sample(model, tokenizer, held, objective.max_new_tokens, objective.temperature, seed)
    texts = [tokenizer.decode(each, skip_special_tokens=True).strip() for each in answers]
    asked = [each.answered(text) for each, text in zip(held, texts, strict=True)]
    rated = [rate(asked) for rate in rates]
    return Measured(answers, texts, total(objective.rewards, rated))


class Runaway:
    """Whether the KL or the length of the answers leaves what the recipe allows."""

    FIRST = 3
    """Steps whose mean length is what later ones are compared with."""

    def __init__(self, stop_kl: float | None, stop_length: float | None) -> None:
        self.stop_kl, self.stop_length = stop_kl, stop_length
        self.lengths: list[float] = []

    def check(self, kl: float | None, length: float) -> str:
        """Why the run should end after this step; empty when it may go on."""
        self.lengths.append(length)
        if self.stop_kl is not None and kl is not None and kl > self.stop_kl:
            return f"the KL to the reference is {kl:.3g} nats a token (stop_kl {self.stop_kl:g})"
        usual = sum(self.lengths[: self.FIRST]) / min(len(self.lengths), self.FIRST)
        if self.stop_length is None or len(self.lengths) <= self.FIRST:
            return ""
        ratio = max(length, 1e-9) / max(usual, 1e-9)
        if max(ratio, 1 / ratio) > self.stop_length:
            return f"answers have {length:.1f} tokens, {usual:.1f} at first (stop_length)"
        return ""


def no_signal(rewards: Sequence[float | None]) -> None:
    """Refuse rewards that cannot teach: all unknown."""
    if rewards and all(value is None for value in rewards):
        raise LlmctlError("no reward could be told for any answer; look at the rewards' inputs")


def need_prompts(recipe: DpoRecipe, train: Sequence[Prompt]) -> None:
    """Refuse a recipe without a prompt."""
    if not train:
        raise InputError(f"{recipe.data.train}: has no prompt to answer")


def warn_unmeasured(held: Sequence[Prompt]) -> bool:
    """Whether there are too few held-out prompts to measure with; says so."""
    if len(held) < 2:
        ui.warn("fewer than two held-out prompts: the effect of the training was not measured")
    return len(held) < 2
