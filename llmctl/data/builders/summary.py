"""Summaries: the text is part of the question, a model writes the answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from llmctl.data.builders._model import ChunkBuilder, span
from llmctl.data.material import Row
from llmctl.generation.asking import Writer
from llmctl.generation.forms import TEXT, record
from llmctl.records import Dropped, example

REQUESTS = (
    "Summarise the following text in at most {words} words.",
    "What are the main points of this text? Use at most {words} words.",
    "Give a short summary ({words} words at most) of the text below.",
)


class SummaryBuilder(ChunkBuilder):
    """One row per chunk; a summary as long as its text is dropped."""

    blocks: ClassVar[tuple[str, ...]] = ("summary",)

    max_words: int = Field(60, ge=5, description="Longest summary that is asked for, in words.")

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        text = item["text"].strip()
        said = writer.write("summary", record(summary=TEXT), text=text, max_words=self.max_words)
        summary = said["summary"].strip()
        if len(summary) >= len(text):
            yield Dropped(item["id"], "no_shorter", f"{len(summary)} >= {len(text)} characters")
            return
        request = REQUESTS[int(item["id"].encode().hex(), 16) % len(REQUESTS)]
        yield example(
            [
                {"role": "user", "content": f"{request.format(words=self.max_words)}\n\n{text}"},
                {"role": "assistant", "content": summary},
            ],
            span(item),
            self.meta(writer, context=text),
        )
