"""Documents as sections: a heading and the prose under it, with the exact span."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from llmctl.rag.outline import FENCE, outline

SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z`\"'(0-9])")
PROSE = re.compile(r"(?!\s*(?:[-*+>|]|\d+[.)]\s|#|<|!\[))\S")
LINK = re.compile(r"\[([^\]]+)\]\([^)]*\)")


@dataclass(frozen=True)
class Section:
    """`text` is the prose of document.text[start:end], its lines joined and links unwrapped."""

    document: str
    uri: str
    title: str
    heading: str
    start: int
    end: int
    text: str

    def source(self) -> dict[str, Any]:
        """Where the section stands."""
        return {"document": self.document, "uri": self.uri, "start": self.start, "end": self.end}


def sections(document: Mapping[str, Any], max_words: int, min_words: int) -> Iterator[Section]:
    """The sections of a document that have prose.

    Of a longer section as many whole sentences are taken as fit into `max_words`.
    """
    text = document["text"]
    headings = outline(text)
    title = document.get("title") or document["uri"]
    starts = [(h.start, h.title, h.end) for h in headings] or [(0, title, 0)]
    for number, (_, heading, body) in enumerate(starts):
        end = starts[number + 1][0] if number + 1 < len(starts) else len(text)
        paragraph = _prose(text[body:end])
        if paragraph is None:
            continue
        start, stop = paragraph
        prose = LINK.sub(r"\1", " ".join(text[body + start : body + stop].split()))
        kept: list[str] = []
        for sentence in SENTENCE_END.split(prose):
            if kept and len(" ".join([*kept, sentence]).split()) > max_words:
                break
            kept.append(sentence)
        said = " ".join(kept)
        if min_words <= len(said.split()) <= max_words:
            yield Section(
                document["id"], document["uri"], title, heading, body + start, body + stop, said
            )


def _prose(body: str) -> tuple[int, int] | None:
    """The span of the first run of prose lines: no code, list, table or picture."""
    at, start, stop, fenced = 0, -1, -1, False
    for line in body.splitlines(keepends=True):
        if FENCE.match(line):
            fenced = not fenced
        is_prose = not fenced and PROSE.match(line) and not FENCE.match(line)
        if is_prose:
            start = at if start < 0 else start
            stop = at + len(line.rstrip())
        elif line.strip() and start >= 0:
            break
        at += len(line)
    return (start, stop) if start >= 0 else None
