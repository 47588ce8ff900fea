"""Grounded question-answer pairs from the structure of documents: heading -> section. No model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Row
from llmctl.data.sections import sections
from llmctl.records import example

QUESTIONS = (
    'What does "{title}" say about "{heading}"?',
    'Explain "{heading}" ({title}).',
    'In "{title}": {heading}?',
    'Tell me about "{heading}" in "{title}".',
)


class SectionsBuilder(Builder):
    """One example per section: the answer is the section's own prose."""

    works_on: ClassVar[Literal["documents", "chunks"]] = "documents"

    max_words: int = Field(90, ge=5, description="Longest answer; whole sentences are taken.")
    min_words: int = Field(8, ge=1, description="Shortest answer.")
    questions: int = Field(
        1, ge=1, le=len(QUESTIONS), description="Differently worded questions per section."
    )

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        for document in material.documents:
            found = False
            for section in sections(document, self.max_words, self.min_words):
                found = True
                random = material.random(section.document, str(section.start))
                for template in random.sample(QUESTIONS, self.questions):
                    question = template.format(title=section.title, heading=section.heading)
                    yield example(
                        [
                            {"role": "user", "content": question},
                            {"role": "assistant", "content": section.text},
                        ],
                        section.source(),
                        {"builder": self.kind, "heading": section.heading},
                    )
            if not found:
                yield Dropped(document["id"], "no_section", document["uri"])
