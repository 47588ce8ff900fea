"""So many rows as fit a number of tokens."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

from pydantic import Field

from llmctl.data.filters.base import answers_of
from llmctl.data.selectors.base import BY, Row, Selector, best_first
from llmctl.schema.parts import ModelRef


class BudgetSelector(Selector):
    """Rows by `by`, or drawn by the seed, until the next would not fit; smaller ones may still."""

    needs: ClassVar[dict[str, str]] = {"tokenizers": "data"}

    tokens: int = Field(ge=1, description="Most tokens of all rows together.")
    tokenizer: ModelRef = Field(description="Model whose tokens are counted.")
    by: str | None = Field(None, description=f"Which rows come first. {BY}")

    def model_inputs(self) -> dict[str, Path | str]:
        """The tokenizer's model."""
        return {"tokenizer": self.tokenizer}

    def chosen(self, rows: Sequence[Row], seed: int) -> dict[int, str]:
        """See Selector."""
        from llmctl.rag.tokens import tokenizer_of

        tokenizer = tokenizer_of(self.tokenizer)
        encoded = tokenizer.encode_batch([text_of(row) for row in rows], add_special_tokens=False)
        left, leaving = self.tokens, {}
        for place in best_first(rows, self.by, seed):
            size = len(encoded[place].ids)
            if size > left:
                leaving[place] = f"{size} tokens, {left} are left"
            else:
                left -= size
        return leaving


def text_of(row: Row) -> str:
    """All that is trained on: what is asked and every answer, or the raw text."""
    turns = row.get("messages") or row.get("prompt") or ()
    asked = [turn["content"] for turn in turns if turn["role"] != "assistant"]
    return "\n".join([*asked, *answers_of(row)])
