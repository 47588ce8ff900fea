"""Multi-query: the question in other words, each searched, the results fused."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmctl.rag.structured import asked as ask
from llmctl.rag.structured import lines_schema
from llmctl.rag.transforms.base import Asked, Query, Tools, Transform


class MultiQueryTransform(Transform):
    """Finds what is written in other words than the question."""

    asks_engine: ClassVar[bool] = True

    queries: int = Field(3, ge=1, le=10, description="Most further wordings.")
    weight: float = Field(0.5, gt=0, le=1, description="Weight of each beside the question's 1.")
    instruction: str = Field(
        "Write other wordings of the user's question for a search engine, with other words for "
        "the same things. Do not answer it.",
        min_length=1,
        description="What the model is told.",
    )

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """One model call."""
        schema = lines_schema("queries", self.queries)
        answer = ask(tools.session, self.instruction, asked.question, schema)
        texts = [str(text) for text in answer["queries"]][: self.queries]
        return asked.also(*(Query(text, self.weight) for text in texts))
