"""Routing: which store a question goes to, or none.

The recipe's own store is one choice, each of `stores` another, and no search at all the last one.
Transforms that come later in the list work with the store that was chosen.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from llmctl.errors import LlmctlError
from llmctl.rag.structured import asked as ask
from llmctl.rag.transforms.base import Asked, Tools, Transform
from llmctl.schema.base import Part

Name = Annotated[str, StringConstraints(pattern=r"^[\w-]{1,64}$")]
NONE = "none"


class OtherStore(Part):
    """A store besides the recipe's own, and the questions that are for it."""

    name: Name = Field(description="What the store is called in the trace, and by the engine.")
    store: Path = Field(description="Artifact folder of ingest.")
    when: tuple[str, ...] = Field(
        (), description="rules: regular expressions of questions that go to this store."
    )
    about: tuple[str, ...] = Field(
        (),
        description="embeddings, engine: what this store is about, or questions it answers.",
    )


class RouteTransform(Transform):
    """Chooses among the recipe's store, others, and no search at all."""

    asks_engine: ClassVar[bool] = True

    by: Literal["rules", "embeddings", "engine"] = Field(
        "embeddings",
        description="rules: patterns; embeddings: nearness to examples; engine: the model decides.",
    )
    never: tuple[str, ...] = Field(
        (), description="rules: regular expressions of questions that are not searched."
    )
    about: tuple[str, ...] = Field(
        (), description="What the recipe's store is about, or questions that it answers."
    )
    other: tuple[str, ...] = Field(
        (
            "Hello, how are you?",
            "Thank you very much!",
            "Write a poem.",
            "What is two plus two?",
            "Tell me a joke.",
        ),
        description="embeddings: questions that are for no store.",
    )
    margin: float = Field(
        0.1,
        ge=-2,
        le=2,
        description="embeddings: how much nearer to `other` than to the best store a question has "
        "to be to be kept from all.",
    )
    own: Name = Field("documents", description="What the recipe's store is called in the trace.")
    stores: tuple[OtherStore, ...] = Field(
        (), description="Further stores; rules try them in this order."
    )

    @model_validator(mode="after")
    def _complete(self) -> Self:
        names = [self.own, NONE, *(each.name for each in self.stores)]
        if len(set(names)) < len(names):
            raise ValueError(f"names of stores have to differ: {', '.join(names)}")
        patterns = [*self.never]
        if self.by == "rules":
            if not self.never and not self.stores:
                raise ValueError("routing by rules needs `never` or `stores`")
        elif not self.about:
            raise ValueError(f"routing by {self.by} needs `about`")
        for each in self.stores:
            needed = "when" if self.by == "rules" else "about"
            if not getattr(each, needed):
                raise ValueError(f"store {each.name}: routing by {self.by} needs its `{needed}`")
            patterns += each.when
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no pattern: {error}") from None
        return self

    def asks(self) -> bool:
        """Only by engine."""
        return self.by == "engine"

    def inputs(self) -> dict[str, Path]:
        """The further stores."""
        return {f"stores.{each.name}": each.store for each in self.stores}

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """The question with its store, or marked as not to be searched."""
        if self.by == "rules":
            chosen = self._by_rules(asked.question)
        elif self.by == "embeddings":
            chosen = self._by_nearness(asked.question, tools)
        else:
            chosen = self._by_engine(asked.question, tools)
        if chosen == NONE:
            return replace(asked, search=False)
        store = {each.name: each.store for each in self.stores}.get(chosen)
        return replace(asked, store=store)

    def _by_rules(self, question: str) -> str:
        """No store when a pattern of `never` is found, else the first whose `when` is."""

        def found(patterns: Sequence[str]) -> bool:
            return any(re.search(each, question, re.I) for each in patterns)

        if found(self.never):
            return NONE
        return next((each.name for each in self.stores if found(each.when)), self.own)

    def _by_nearness(self, question: str, tools: Tools) -> str:
        """The store of the nearest example, by the embedder of the recipe's store."""
        vector = tools.embedder.query(question)

        def near(texts: Sequence[str]) -> float:
            return float((tools.embedder.texts(list(texts)) @ vector).max()) if texts else -1.0

        nearness = {self.own: near(self.about)}
        nearness |= {each.name: near(each.about) for each in self.stores}
        best = max(nearness, key=nearness.__getitem__)
        return NONE if near(self.other) - nearness[best] > self.margin else best

    def _by_engine(self, question: str, tools: Tools) -> str:
        """What the model says, among the names."""
        names = [self.own, *(each.name for each in self.stores), NONE]
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"store": {"enum": names}},
            "required": ["store"],
            "additionalProperties": False,
        }
        told = [f"- {self.own}: {'; '.join(self.about)}"]
        told += [f"- {each.name}: {'; '.join(each.about)}" for each in self.stores]
        instruction = (
            "Which of these stores of documents has to be searched to answer the user's question? "
            f"Greetings, thanks and other subjects need no search: {NONE}.\n" + "\n".join(told)
        )
        chosen = str(ask(tools.session, instruction, question, schema)["store"])
        if chosen not in names:
            raise LlmctlError(f"the model names a store that is not there: {chosen[:80]!r}")
        return chosen
