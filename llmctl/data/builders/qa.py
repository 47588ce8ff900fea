"""Instruction-answer pairs that a model writes about a chunk, in enforced JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from pydantic import Field

from llmctl.data.builders._model import ChunkBuilder, span
from llmctl.data.material import Row
from llmctl.generation.asking import Writer
from llmctl.generation.forms import TEXT, record, texts
from llmctl.records import Dropped, example


class QaBuilder(ChunkBuilder):
    """`pairs` rows per chunk."""

    blocks: ClassVar[tuple[str, ...]] = ("pairs",)

    pairs: int = Field(3, ge=1, le=20, description="Pairs asked for per chunk.")

    def reply_schema(self) -> dict[str, Any]:
        """What a reply has to look like."""
        return record(pairs=texts(self.pairs, of=record(question=TEXT, answer=TEXT)))

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        reply = writer.write("pairs", self.reply_schema(), text=item["text"], pairs=self.pairs)
        for each in reply["pairs"]:
            question, answer = each["question"].strip(), each["answer"].strip()
            if not question or not answer:
                yield Dropped(item["id"], "reply_empty")
                continue
            yield example(
                [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
                span(item),
                self.meta(writer, context=item["text"]),
            )
