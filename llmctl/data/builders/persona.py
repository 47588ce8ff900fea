"""The same text, asked about by different people.

Text-to-persona (Ge et al. 2024, arXiv 2406.20094): a model names people who would read a text, and
then asks as each of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from llmctl.data.builders._model import ChunkBuilder, span
from llmctl.data.material import Row
from llmctl.generation.asking import Refused, Writer
from llmctl.generation.forms import TEXT, record, texts
from llmctl.records import Dropped, example


class PersonaBuilder(ChunkBuilder):
    """A row per persona of a chunk: their question, and an answer from the text that suits them."""

    blocks: ClassVar[tuple[str, ...]] = ("personas", "question")

    personas: int = Field(2, ge=1, le=20, description="People asked for per chunk.")

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        text = item["text"]
        form = record(personas=texts(self.personas))
        people = writer.write("personas", form, text=text, personas=self.personas)["personas"]
        for number, persona in enumerate(people):
            try:
                said = writer.write(
                    "question",
                    record(question=TEXT, answer=TEXT),
                    text=text,
                    persona=persona,
                    sample=number,
                )
            except Refused as refused:  # the others' questions are kept
                yield Dropped(f"{item['id']}:{number}", refused.reason, refused.detail)
                continue
            yield example(
                [
                    {"role": "user", "content": said["question"].strip()},
                    {"role": "assistant", "content": said["answer"].strip()},
                ],
                span(item),
                self.meta(writer, persona=persona, context=text),
            )
