"""Raw answers and raw texts, written anew: well formed, with nothing added."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from llmctl.data.builders._model import RowBuilder
from llmctl.data.filters.base import question_of
from llmctl.data.material import Row
from llmctl.generation.asking import Refused, Writer
from llmctl.records import Dropped, Text, example, form_of, row_id


class RephraseBuilder(RowBuilder):
    """The last answer of an example, or the whole of a raw text, takes the place of the old one.

    Raw text for continual pre-training: Maini et al. 2024 (WRAP, arXiv 2401.16380).
    """

    reads: ClassVar[tuple[str, ...]] = ("examples", "texts")
    form: ClassVar[str] = ""
    blocks: ClassVar[tuple[str, ...]] = ("answer", "text")

    style: str = Field(
        "clear, complete and well structured", description="How it should read; for the prompt."
    )

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        meta = self.meta_after(writer, item, style=self.style)
        if form_of(item) == "texts":
            said = writer.write("text", text=item["text"], style=self.style)
            row: Text = {
                "id": row_id(said), "text": said, "source": item["source"], "meta": meta,
            }  # fmt: skip
            yield row
            return
        *before, last = item["messages"]
        if last["role"] != "assistant":
            raise Refused("no_answer", f"the last turn is the {last['role']}'s")
        said = writer.write(
            "answer",
            question=question_of(item),
            answer=last["content"],
            context=meta.get("context", ""),
            style=self.style,
        )
        turns = [*before, {"role": "assistant", "content": said}]
        yield example(turns, item["source"], meta)
