"""HyDE: a passage as it might stand in the store is searched by its vector (Gao et al. 2022)."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from llmctl.rag.structured import asked as ask
from llmctl.rag.structured import text_schema
from llmctl.rag.transforms.base import Asked, Tools, Transform


class HydeTransform(Transform):
    """The passage may be wrong: it is only looked at for what it is about, and never shown."""

    asks_engine: ClassVar[bool] = True

    weight: float = Field(
        0.5, ge=0, le=1, description="Share of the passage in the vector; the rest is the question."
    )
    max_tokens: int = Field(200, ge=16, description="Longest passage, in tokens.")
    instruction: str = Field(
        "Write a short passage, as it could stand in a manual or an article, that answers the "
        "user's question.",
        min_length=1,
        description="What the model is told.",
    )

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """One model call and one text to embed; the words that are searched stay the user's."""
        import numpy as np

        schema = text_schema("passage")
        answer = ask(
            tools.session, self.instruction, asked.question, schema, max_tokens=self.max_tokens + 16
        )
        first, *rest = asked.queries
        old = first.vector if first.vector is not None else tools.embedder.query(first.text)
        passage = tools.embedder.texts([str(answer["passage"])])[0]
        vector = (1 - self.weight) * old + self.weight * passage
        vector = (vector / np.linalg.norm(vector)).astype("float32")
        return replace(asked, queries=(replace(first, vector=vector), *rest))
