"""Answers that stand in the text word for word, with their exact span: nothing is invented."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from llmctl.data.builders._model import ChunkBuilder, span
from llmctl.data.material import Row
from llmctl.generation.asking import Writer
from llmctl.generation.forms import TEXT, record, texts
from llmctl.records import Dropped, example


class ExtractBuilder(ChunkBuilder):
    """`pairs` rows per chunk; an answer that is not in the text is dropped as `not_verbatim`."""

    blocks: ClassVar[tuple[str, ...]] = ("quotes",)

    pairs: int = Field(2, ge=1, le=20, description="Questions asked for per chunk.")

    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """See ModelBuilder."""
        form = record(pairs=texts(self.pairs, of=record(question=TEXT, quote=TEXT)))
        reply = writer.write("quotes", form, text=item["text"], pairs=self.pairs)
        for each in reply["pairs"]:
            found = place(each["quote"], item["text"])
            if found is None:
                yield Dropped(item["id"], "not_verbatim", each["quote"][:200])
                continue
            begin = item["source"].get("start", 0)
            start, end = begin + found[0], begin + found[1]
            yield example(
                [
                    {"role": "user", "content": each["question"].strip()},
                    {"role": "assistant", "content": item["text"][slice(*found)]},
                ],
                {**span(item), "start": start, "end": end},
                self.meta(writer, context=item["text"]),
            )


def place(quote: str, text: str) -> tuple[int, int] | None:
    """(start, end) in `text` of a quote, apart from white space and quotation marks around it."""
    words = quote.strip(" \t\r\n\"'“”„«»").split()
    if not words:
        return None
    found = re.search(r"\s+".join(map(re.escape, words)), text)
    return found.span() if found else None
