"""A reward model: sequence classification with one output, through Transformers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.engines.transformers import device_here
from llmctl.errors import InputError
from llmctl.judges.base import Answered, Judge, Judgement, LiveJudge
from llmctl.schema.parts import Device, ModelRef


class RewardJudge(Judge):
    """The model's one number for a conversation that ends with the answer; it has no bounds."""

    needs: ClassVar[dict[str, str]] = {"torch": "train", "transformers": "train"}

    model: ModelRef
    batch_size: int = Field(8, ge=1, description="Conversations that are read together.")
    max_tokens: int = Field(
        2048, ge=8, description="Longest conversation, in tokens; longer ones are unmeasured."
    )
    device: Device = "auto"

    def model_inputs(self) -> dict[str, Path | str]:
        """The reward model."""
        return {"model": self.model}

    @contextmanager
    def open(self, cache: Path | None = None) -> Iterator[LiveJudge]:
        """Load the model; one that has other than one output is refused."""
        import torch
        from transformers import AutoModelForSequenceClassification

        from llmctl import modelref, pretrained

        folder = modelref.hf_folder(self.model)
        device = device_here(self.device)
        with modelref.silenced():
            tokenizer = pretrained.tokenizer(folder)
            model = pretrained.model(
                AutoModelForSequenceClassification,
                folder,
                dtype=torch.bfloat16 if device.startswith("cuda") else torch.float32,
            )
        if model.config.num_labels != 1:
            raise InputError(
                f"{self.model}: has {model.config.num_labels} outputs, a reward model has one"
            )
        if tokenizer.chat_template is None:
            raise InputError(f"{self.model}: has no chat template, so it cannot read an answer")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token
        model.config.pad_token_id = tokenizer.pad_token_id  # decides which token is the last
        yield Reward(self, model.to(device).eval(), tokenizer)


class Reward(LiveJudge):
    """A loaded reward model."""

    def __init__(self, judge: RewardJudge, model: Any, tokenizer: Any) -> None:
        super().__init__()
        self.judge, self.model, self.tokenizer = judge, model, tokenizer

    def score(self, items: Iterable[Answered]) -> Iterator[Judgement]:
        """See LiveJudge."""
        rest = iter(items)
        while batch := list(islice(rest, self.judge.batch_size)):
            yield from self._batch(batch)

    def _batch(self, items: list[Answered]) -> Iterator[Judgement]:
        import torch

        every = [self._ids(item) for item in items]
        fitting = [ids for ids in every if len(ids) <= self.judge.max_tokens]
        rewards: Iterator[float] = iter(())
        if fitting:
            padded = self.tokenizer.pad(
                {"input_ids": fitting}, padding=True, padding_side="right", return_tensors="pt"
            ).to(self.model.device)
            with torch.inference_mode():
                logits = self.model(**padded).logits  # (batch, 1)
            rewards = iter(logits[:, 0].float().cpu().tolist())
        for ids in every:
            if len(ids) > self.judge.max_tokens:
                yield Judgement(None, f"{len(ids)} tokens, at most {self.judge.max_tokens} fit")
            else:
                yield Judgement(next(rewards))

    def _ids(self, item: Answered) -> list[int]:
        turns = [*map(dict, item.messages), {"role": "assistant", "content": item.answer}]
        found: list[int] = self.tokenizer.apply_chat_template(turns, return_dict=True)["input_ids"]
        return found
