"""The instruction that a text answers: the text itself becomes the answer.

Instruction backtranslation (Li et al. 2023, arXiv 2308.06259). A `rephrase` step after it makes the
raw text a well-formed answer, as in back-and-forth translation (Nguyen et al. 2024, 2408.04614).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from llmctl.data.builders._model import ChunkBuilder, span
from llmctl.data.material import Row
from llmctl.generation.asking import Writer
from llmctl.generation.forms import TEXT, record
from llmctl.records import Dropped, example


class BacktranslateBuilder(ChunkBuilder):
    """One row per chunk: a model writes the question, the answer is the author's own text."""

    blocks: ClassVar[tuple[str, ...]] = ("instruction",)

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        text = item["text"].strip()
        said = writer.write("instruction", record(instruction=TEXT), text=text)
        yield example(
            [
                {"role": "user", "content": said["instruction"].strip()},
                {"role": "assistant", "content": text},
            ],
            span(item),
            self.meta(writer),
        )
