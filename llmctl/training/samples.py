"""What the model writes to the same prompts before, while and after it is trained."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from llmctl.artifact import Artifact
from llmctl.schema.loop import Samples
from llmctl.schema.training import TrainingRecipe
from llmctl.training import attach, launch, measure
from llmctl.training.data import Tokens, render

TOGETHER = ("fsdp", "tensor")
"""Strategies under which a word needs all processes: each has a part of the weights."""


@dataclass(frozen=True)
class Prompt:
    """What is asked, and what the held-out row answers; None for a question of the recipe."""

    ids: list[int]
    text: str
    wanted: str | None = None


def of_recipe(tokenizer: PreTrainedTokenizerBase, samples: Samples) -> list[Prompt]:
    """The recipe's own questions, as the user's first turn where the model has a template."""
    found = []
    for question in samples.prompts:
        text = question
        if tokenizer.chat_template:
            text = render(tokenizer, [{"role": "user", "content": question}], prompt=True)
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        found.append(Prompt(list(ids), question))
    return found


def of_rows(tokenizer: PreTrainedTokenizerBase, rows: Iterable[Tokens]) -> list[Prompt]:
    """The rows up to their last answer; of a row that is learnt whole, its first quarter."""
    found = []
    for row in rows:
        begins = [i for i in range(1, len(row.ids)) if row.trained[i] and not row.trained[i - 1]]
        cut = begins[-1] if begins else max(len(row.ids) // 4, 1)
        wanted = tokenizer.decode(row.ids[cut:], skip_special_tokens=True)
        found.append(Prompt(row.ids[:cut], tokenizer.decode(row.ids[:cut]), wanted.strip()))
    return found


@torch.no_grad()
def answers(
    model: Any, tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Prompt], most: int
) -> list[str]:
    """The likeliest continuation of each prompt, at most `most` tokens."""
    if not prompts:
        return []
    model.eval()
    if attach.is_soft(model):
        ends = model.generation_config.eos_token_id
        stops = {*(ends if isinstance(ends, list) else [ends]), tokenizer.eos_token_id}
        each = (attach.likeliest(model, prompt.ids, most, stops) for prompt in prompts)
        return [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in each]
    width = max(len(prompt.ids) for prompt in prompts)
    pad = tokenizer.pad_token_id or 0
    ids = [[pad] * (width - len(prompt.ids)) + prompt.ids for prompt in prompts]
    seen = [[0] * (width - len(prompt.ids)) + [1] * len(prompt.ids) for prompt in prompts]
    found = model.generate(
        input_ids=torch.tensor(ids, device=model.device),
        attention_mask=torch.tensor(seen, device=model.device),
        max_new_tokens=most,
        do_sample=False,
        temperature=None,
        top_p=None,
        top_k=None,
        use_cache=True,
        pad_token_id=pad,
    )
    texts = (tokenizer.decode(row[width:], skip_special_tokens=True) for row in found)
    return [text.strip() for text in texts]


class Written:
    """The answers of a run by step, kept in the scratch folder so that a kill costs none."""

    def __init__(
        self,
        artifact: Artifact,
        tokenizer: PreTrainedTokenizerBase,
        recipe: TrainingRecipe,
        rows: Sequence[Tokens],
    ) -> None:
        samples = recipe.samples
        self.prompts = [*of_recipe(tokenizer, samples), *of_rows(tokenizer, rows[: samples.rows])]
        self.artifact = artifact
        self.tokenizer = tokenizer
        self.most = samples.max_tokens
        self.takes_part = launch.is_first() or recipe.launch.strategy in TOGETHER

    def write(self, model: Any, step: int, *, again: bool = False) -> None:
        """Keep the answers at a step; those of a killed run are written `again` only when asked."""

        def written() -> list[str]:
            return answers(model, self.tokenizer, self.prompts, self.most)

        name = f"samples-{step}"
        if again:
            measure.remember(self.artifact.scratch / f"{name}.json", written())
        elif self.takes_part:
            launch.measured_together(self.artifact, name, written)

    def publish(self, last: int) -> list[tuple[str, str]]:
        """Write samples.jsonl with every step up to `last`; (prompt, texts) for the report."""
        files = self.artifact.scratch.glob("samples-*.json")
        found = {int(path.stem.rpartition("-")[2]): path for path in files}
        by_step = {s: measure.remembered(found[s]) for s in sorted(found) if s <= last}
        self.artifact.write_jsonl(
            "samples.jsonl",
            (
                {"step": step, "prompt": prompt.text, "answer": answer, "wanted": prompt.wanted}
                for step, texts in by_step.items()
                for prompt, answer in zip(self.prompts, texts, strict=True)
            ),
        )
        shown = []
        for index, prompt in enumerate(self.prompts):
            parts = [f"BEFORE: {by_step[0][index]}", f"AFTER: {by_step[last][index]}"]
            if prompt.wanted is not None:
                parts.append(f"IN THE DATA: {prompt.wanted}")
            shown.append((prompt.text, "\n\n".join(parts)))
        return shown
