"""Decomposition: a question of several parts is searched part by part."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmctl.rag.structured import asked as ask
from llmctl.rag.structured import lines_schema
from llmctl.rag.transforms.base import Asked, Query, Tools, Transform


class DecomposeTransform(Transform):
    """Sub-questions count as much as the question; one part gives nothing new to search."""

    asks_engine: ClassVar[bool] = True

    parts: int = Field(4, ge=2, le=10, description="Most sub-questions.")
    instruction: str = Field(
        "Split the user's question into the simple questions that have to be looked up to answer "
        "it, each understandable alone. A simple question stays as it is. Do not answer it.",
        min_length=1,
        description="What the model is told.",
    )

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """One model call."""
        schema = lines_schema("questions", self.parts)
        answer = ask(tools.session, self.instruction, asked.question, schema)
        texts = [str(text) for text in answer["questions"]][: self.parts]
        return asked.also(*map(Query, texts)) if len(texts) > 1 else asked
