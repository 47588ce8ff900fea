"""Rewrite: the question as a search query, without greetings and pronouns."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from llmctl.rag.structured import asked as ask
from llmctl.rag.structured import text_schema
from llmctl.rag.transforms.base import Asked, Query, Tools, Transform


class RewriteTransform(Transform):
    """The rewritten question is searched; with `keep` beside the user's own words."""

    asks_engine: ClassVar[bool] = True

    instruction: str = Field(
        "Rewrite the user's question as one short, self-contained search query. Keep every name, "
        "number and technical term. Do not answer it.",
        min_length=1,
        description="What the model is told.",
    )
    keep: bool = Field(True, description="Search the question as it was asked, too.")

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """One model call."""
        answer = ask(tools.session, self.instruction, asked.question, text_schema("query"))
        query = Query(str(answer["query"]).strip() or asked.question)
        return asked.also(query) if self.keep else replace(asked, queries=(query,))
