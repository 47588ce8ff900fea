"""Conversations: further questions and answers are added to each example."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data.builders._model import RowBuilder, told
from llmctl.data.material import Row
from llmctl.generation.asking import Writer
from llmctl.generation.forms import TEXT, record
from llmctl.records import Dropped, Message, example


class MultiTurnBuilder(RowBuilder):
    """The model is first the user, who sees the conversation, and then the assistant.

    A row with a `meta.context` is answered from it.
    """

    blocks: ClassVar[tuple[str, ...]] = ("question", "answer")

    turns: int = Field(1, ge=1, le=20, description="Questions added to each row.")

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        messages: list[Message] = [*item["messages"]]
        known: dict[str, Any] = {"context": item.get("meta", {}).get("context", "")}
        for turn in range(self.turns):
            known |= {"conversation": told(messages), "sample": turn}
            asked = writer.write("question", record(question=TEXT), **known)["question"].strip()
            answer = writer.write("answer", record(answer=TEXT), question=asked, **known)["answer"]
            messages += [
                {"role": "user", "content": asked},
                {"role": "assistant", "content": answer.strip()},
            ]
        meta = self.meta_after(writer, item, turns_added=self.turns)
        yield example(messages, item["source"], meta)
