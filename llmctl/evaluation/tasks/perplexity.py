"""How well a model predicts raw text."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, model_validator

from llmctl import shards
from llmctl.errors import InputError
from llmctl.evaluation.tasks.base import Item, Scored, Task, draw, nll, rows_of
from llmctl.records import row_id


class PerplexityTask(Task):
    """Text in blocks; every token is scored once, with at least window - stride tokens before it.

    `loss` is nats per token (perplexity is its exponential), `bits_per_byte` does not depend on the
    tokenizer. No token is put in front, so a block's first token is not scored.
    """

    metrics: ClassVar[tuple[str, ...]] = ("loss", "bits_per_byte")
    lower_is_better: ClassVar[frozenset[str]] = frozenset(metrics)

    data: Path = Field(description="A text file, a pattern such as docs/*.md, or rows with `text`.")
    window: int = Field(512, ge=8, description="Tokens that the model sees at once.")
    stride: int = Field(256, ge=1, description="Tokens that a window moves on.")
    block: int = Field(
        2000, ge=64, description="Characters of one item; text is cut at the ends of lines."
    )

    @model_validator(mode="after")
    def _ordered(self) -> PerplexityTask:
        if self.stride >= self.window:
            raise ValueError("stride must be smaller than window: every token needs one before it")
        return self

    def items(self, work: Path, limit: int | None, seed: int) -> list[Item]:
        """Blocks of text in their order."""
        found = []
        for where, text in self._texts():
            for number, block in enumerate(blocks(text, self.block)):
                identity = row_id(where, str(number), block)
                found.append(Item(identity, where, {"text": block}))
        if not found:
            raise InputError(f"{self.data}: has no text to measure with")
        return draw(found, limit, seed)

    def _texts(self) -> Iterator[tuple[str, str]]:
        if texts := shards.texts(self.data):
            yield from ((str(path), shards.text_of(path)) for path in texts)
            return
        for item in rows_of(self.data):
            if "text" not in item.data:
                raise InputError(f"{item.where}: has no `text`; found {', '.join(item.data)}")
            if not isinstance(item.data["text"], str):
                raise InputError(f"{item.where}: `text` must be text")
            yield item.where, item.data["text"]

    def score(self, session: Any, items: Sequence[Item], work: Path) -> Iterator[Scored]:
        """The mean loss of each block's tokens."""
        for item in items:
            text = item.data["text"]
            encoded = session.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            ids, offsets = encoded["input_ids"], encoded["offset_mapping"]
            if len(ids) < 2:
                yield Scored(unmeasured="fewer than two tokens")
                continue
            found = nll(session, list(windows(ids, self.window, self.stride)))
            total, count = (sum(part) for part in zip(*found, strict=True))
            size = len(text[offsets[1][0] :].encode())
            yield Scored(
                {"loss": total / count, "bits_per_byte": total / size / math.log(2)},
                {"loss": count, "bits_per_byte": size},
            )


def blocks(text: str, most: int) -> Iterator[str]:
    """Whole lines up to `most` characters each; a longer line is a block of its own."""
    held = ""
    for line in text.splitlines(keepends=True):
        if held and len(held) + len(line) > most:
            yield held
            held = ""
        held += line
    if held.strip():
        yield held


def windows(ids: list[int], window: int, stride: int) -> Iterator[tuple[list[int], list[bool]]]:
    """(ids, is a target) of each window: together every token but the first is a target once."""
    done = 1
    for start in range(0, len(ids), stride):
        part = ids[start : start + window]
        yield part, [start + i >= done for i in range(len(part))]
        done = start + len(part)
        if done >= len(ids):
            return
