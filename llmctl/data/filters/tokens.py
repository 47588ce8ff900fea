"""Rows that are too short or too long in tokens of a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import Field, model_validator

from llmctl.data.filters.base import Filter, Verdict, Within, answers_of, asked_of
from llmctl.schema.parts import ModelRef


class TokensFilter(Filter):
    """The tokens of the text itself, without those that a chat template adds."""

    needs: ClassVar[dict[str, str]] = {"tokenizers": "data"}

    tokenizer: ModelRef = Field(description="Model whose tokens are counted.")
    min_tokens: int = Field(0, ge=0, description="Fewest tokens.")
    max_tokens: int = Field(2048, ge=1, description="Most tokens.")
    within: Within = Field(
        "both", description="What is counted: one of them, or their sum; of a pair each answer."
    )

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.min_tokens > self.max_tokens:
            raise ValueError(f"min_tokens {self.min_tokens} is above max_tokens {self.max_tokens}")
        return self

    def model_inputs(self) -> dict[str, Path | str]:
        """The tokenizer's model."""
        return {"tokenizer": self.tokenizer}

    def start(self) -> Callable[[Mapping[str, Any]], Verdict]:
        """See Filter."""
        from llmctl.rag.tokens import tokenizer_of

        tokenizer = tokenizer_of(self.tokenizer)

        def count(text: str) -> int:
            return len(tokenizer.encode(text, add_special_tokens=False).ids)

        def judge(row: Mapping[str, Any]) -> Verdict:
            asked = 0 if self.within == "answer" else count("\n".join(asked_of(row)))
            answers = [] if self.within == "question" else answers_of(row)
            if "messages" in row:  # one conversation; other answers stand for themselves
                answers = ["\n".join(answers)] if answers else []
            for tokens in [asked + count(each) for each in answers] or [asked]:
                if tokens < self.min_tokens:
                    return f"{tokens} < {self.min_tokens} tokens"
                if tokens > self.max_tokens:
                    return f"{tokens} > {self.max_tokens} tokens"
            return None

        return judge
