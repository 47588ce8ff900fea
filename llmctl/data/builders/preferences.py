"""Preference pairs from the structure of documents: an answer with its source, and a worse one."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.builders.sections import QUESTIONS
from llmctl.data.sections import Section, sections
from llmctl.records import pair


class PreferencesBuilder(Builder):
    """chosen: the section's prose and a line that names it; rejected: see `worse`."""

    works_on: ClassVar[Literal["documents", "chunks"]] = "documents"
    form: ClassVar[str] = "pairs"

    max_words: int = Field(60, ge=5, description="Longest answer; whole sentences are taken.")
    min_words: int = Field(8, ge=1, description="Shortest answer.")
    worse: Literal["wrong_source", "no_source", "cut_short"] = Field(
        "wrong_source",
        description="What is wrong with the rejected answer: it comes from another section and "
        "names none, it names no source, or it stops in the middle.",
    )

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        by_document = [
            list(sections(document, self.max_words, self.min_words))
            for document in material.documents
        ]
        every = [section for group in by_document for section in group]
        for document, group in zip(material.documents, by_document, strict=True):
            if not group:
                yield Dropped(document["id"], "no_section", document["uri"])
            for section in group:
                random = material.random(section.document, str(section.start))
                rejected = self.rejected(section, every, random)
                if rejected is None:
                    yield Dropped(f"{section.document}:{section.start}", "no_worse_answer")
                    continue
                question = random.choice(QUESTIONS).format(
                    title=section.title, heading=section.heading
                )
                yield pair(
                    [{"role": "user", "content": question}],
                    [{"role": "assistant", "content": chosen(section)}],
                    [{"role": "assistant", "content": rejected}],
                    section.source(),
                    {"builder": self.kind, "worse": self.worse, "heading": section.heading},
                )

    def rejected(self, section: Section, every: list[Section], random: Random) -> str | None:
        """The worse answer; None when the documents have none to offer."""
        if self.worse == "no_source":
            return f"{section.text}\n\nI hope this helps. Let me know if you have more questions."
        if self.worse == "cut_short":
            words = section.text.split()
            return " ".join(words[: max(1, len(words) // 2)])
        others = [s for s in every if s.text != section.text]
        if not others:
            return None
        wanted = len(section.text.split())
        near = sorted(others, key=lambda s: (abs(len(s.text.split()) - wanted), s.uri, s.start))[:6]
        return f"{random.choice(near).text}\n\nI hope this helps you with your question."


def chosen(section: Section) -> str:
    """The better answer: grounded, and it says where it comes from."""
    return f"{section.text}\n\nSource: {section.uri}, {section.heading}"
