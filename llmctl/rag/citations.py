"""The numbers in an answer -> document and exact span; what resolves to nothing is taken out."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict

from llmctl.rag.compressors.base import pieces
from llmctl.rag.terms import ENGLISH, words

if TYPE_CHECKING:
    from llmctl.rag.retrieve import Hit

MARK = re.compile(r"\s*\[\s*(\d{1,9}(?:\s*[,;–-]\s*\d{1,9})*)\s*\]")


class Citation(TypedDict):
    """`quote` stands at start:end of the document's text; `by` is model or words."""

    number: int
    uri: str
    title: str
    document: str
    start: int
    end: int
    quote: str
    by: str


@dataclass
class Cited:
    """An answer whose numbers all resolve."""

    text: str
    citations: list[Citation] = field(default_factory=list)
    removed: int = 0
    """Numbers that named no source."""


def resolved(answer: str, hits: Sequence[Hit], attribute: float | None = None) -> Cited:
    """The answer with the numbers that resolve, each with the span that it rests on.

    A sentence without any number gets one when a sentence of a source holds at least the share
    `attribute` of its words.
    """
    found = Cited("")
    parts: list[str] = []
    for start, end in _sentences(answer):
        sentence = answer[start:end]
        bare = MARK.sub("", sentence)
        said = _words(bare)
        kept: list[int] = []
        for match in MARK.finditer(sentence):
            for number in _numbers(match[1]):
                if not 1 <= number <= len(hits):
                    found.removed += 1
                elif number not in kept:
                    kept.append(number)
        by = "model"
        if not kept and attribute is not None and not MARK.search(sentence):
            best = max(
                ((_best(said, hit)[0], -n) for n, hit in enumerate(hits, 1)), default=(0.0, 0)
            )
            if best[0] >= attribute:
                kept, by = [-best[1]], "words"
        for number in kept:
            span = _best(said, hits[number - 1])[1]
            found.citations.append(_citation(number, hits[number - 1], span, by))
        parts.append(_with(bare, kept))
    found.text = "".join(parts).strip()
    return found


def _sentences(text: str) -> list[tuple[int, int]]:
    """Sentences with the space after them; a number after the full stop belongs to its sentence."""
    from llmctl.rag.sentences import sentences

    found: list[tuple[int, int]] = []
    for start, end in sentences(text):
        lead = re.match(r"(?:\s*\[[\d\s,;–-]+\])+[.\s]*", text[start:end])
        if found and lead:
            cut = start + lead.end()
            found[-1] = (found[-1][0], cut)
            start = cut
        if start < end:
            found.append((start, end))
    return found


def _numbers(text: str) -> list[int]:
    """1, 3-5 -> 1, 3, 4, 5; a span that counts down or is long gives its ends."""
    found: list[int] = []
    for part in re.split(r"\s*[,;]\s*", text):
        ends = [int(each) for each in re.split(r"\s*[–-]\s*", part)]
        if len(ends) == 2 and 0 < ends[1] - ends[0] < 20:
            found += range(ends[0], ends[1] + 1)
        else:
            found += ends
    return found


def _with(sentence: str, numbers: Sequence[int]) -> str:
    """The sentence with its numbers in front of the closing mark."""
    if not numbers:
        return sentence
    body = sentence.rstrip()
    space = sentence[len(body) :]
    core = body.rstrip(".!?:;")
    marks = "".join(f"[{number}]" for number in numbers)
    return f"{core.rstrip()} {marks}{body[len(core) :]}{space}"


def _words(text: str) -> set[str]:
    return {word for word in words(text) if word not in ENGLISH}


def _best(said: set[str], hit: Hit) -> tuple[float, tuple[int, int]]:
    """(share of the words, span in the document) of the sentence of a source that says most."""
    best, where = -1.0, tuple(hit["spans"][0])
    shift = 0
    for start, end in hit["spans"]:
        text = hit["text"][shift : shift + end - start]
        for a, b in pieces(text):
            share = len(said & _words(text[a:b])) / len(said) if said else 0.0
            if share > best:
                best, where = share, (start + a, start + b)
        shift += end - start + len(" … ")
    return max(best, 0.0), (where[0], where[1])


def _citation(number: int, hit: Hit, span: tuple[int, int], by: str) -> Citation:
    source: dict[str, Any] = hit["source"]
    shift = 0
    quote = ""
    for start, end in hit["spans"]:
        if start <= span[0] and span[1] <= end:
            quote = hit["text"][shift + span[0] - start : shift + span[1] - start]
        shift += end - start + len(" … ")
    return {
        "number": number, "uri": str(source["uri"]), "title": hit["title"],
        "document": str(source["document"]), "start": span[0], "end": span[1], "quote": quote,
        "by": by,
    }  # fmt: skip
