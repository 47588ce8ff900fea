"""Routing: a question that the store is not for is not searched."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from llmctl.rag.structured import asked as ask
from llmctl.rag.transforms.base import Asked, Tools, Transform


class RouteTransform(Transform):
    """Decides between the store and no search at all."""

    asks_engine: ClassVar[bool] = True

    by: Literal["rules", "embeddings", "engine"] = Field(
        "embeddings",
        description="rules: patterns; embeddings: nearness to examples; engine: the model decides.",
    )
    never: tuple[str, ...] = Field(
        (), description="rules: regular expressions of questions that are not searched."
    )
    about: tuple[str, ...] = Field(
        (), description="What the store is about, or questions that it answers."
    )
    other: tuple[str, ...] = Field(
        (
            "Hello, how are you?",
            "Thank you very much!",
            "Write a poem.",
            "What is two plus two?",
            "Tell me a joke.",
        ),
        description="embeddings: questions that are not for the store.",
    )
    margin: float = Field(
        0.1,
        ge=-2,
        le=2,
        description="embeddings: how much nearer to `other` than to `about` a question has to be "
        "to be kept from the store.",
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = "never" if self.by == "rules" else "about"
        if not getattr(self, needed):
            raise ValueError(f"routing by {self.by} needs `{needed}`")
        for pattern in self.never:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"`never`: {pattern!r} is no pattern: {error}") from None
        return self

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """The question as it is, or marked as not to be searched."""
        if self.by == "rules":
            wanted = not any(re.search(each, asked.question, re.I) for each in self.never)
        elif self.by == "embeddings":
            vector = tools.embedder.query(asked.question)
            near, far = (
                float((tools.embedder.texts(list(texts)) @ vector).max()) if texts else -1.0
                for texts in (self.about, self.other)
            )
            wanted = far - near <= self.margin
        else:
            schema = {
                "type": "object",
                "properties": {"search": {"type": "boolean"}},
                "required": ["search"],
                "additionalProperties": False,
            }
            told = "The documents are about: " + "; ".join(self.about)
            instruction = (
                "Do the documents have to be searched to answer the user's question? Greetings, "
                f"thanks and other subjects need no search. {told}"
            )
            wanted = bool(ask(tools.session, instruction, asked.question, schema)["search"])
        return replace(asked, search=asked.search and wanted)
