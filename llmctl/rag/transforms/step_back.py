"""Step-back: the more general question behind a question is searched beside it."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from llmctl.rag.structured import asked as ask
from llmctl.rag.structured import text_schema
from llmctl.rag.transforms.base import Asked, Query, Tools, Transform


class StepBackTransform(Transform):
    """Brings the principle to a question about a case (Zheng et al. 2023)."""

    asks_engine: ClassVar[bool] = True

    weight: float = Field(0.5, gt=0, le=1, description="Weight beside the question's 1.")
    instruction: str = Field(
        "Write the one more general question whose answer is the background of the user's "
        "question. Do not answer it.",
        min_length=1,
        description="What the model is told.",
    )

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """One model call."""
        answer = ask(tools.session, self.instruction, asked.question, text_schema("question"))
        return asked.also(Query(str(answer["question"]), self.weight))
