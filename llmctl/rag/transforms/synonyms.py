"""Expansion from a file of synonyms: one group a line, its words separated by commas."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from llmctl.errors import InputError
from llmctl.rag.transforms.base import Asked, Query, Tools, Transform


class SynonymsTransform(Transform):
    """A question that holds one word or phrase of a group is also searched by the others' words.

    Only the keyword search sees them: vectors know synonyms by themselves.
    """

    file: Path = Field(description="UTF-8 text; `car, automobile`; lines with # are comments.")
    weight: float = Field(
        0.5, gt=0, le=1, description="Weight of an added word; the question's own have 1."
    )

    def groups(self) -> list[list[str]]:
        """The groups of the file."""
        try:
            lines = self.file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise InputError(f"{self.file}: cannot be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{self.file}: not UTF-8 text") from None
        rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
        found = [[word.strip() for word in row.split(",") if word.strip()] for row in rows]
        return [group for group in found if len(group) > 1]

    def apply(self, asked: Asked, tools: Tools) -> Asked:
        """The same queries with more terms."""
        return replace(asked, queries=tuple(self._wider(query, tools) for query in asked.queries))

    def _wider(self, query: Query, tools: Tools) -> Query:
        index = tools.index()
        terms = dict(query.terms if query.terms is not None else index.weights(query.text))
        for group in self.groups():
            said = [word for word in group if _in(word, query.text)]
            if not said:
                continue
            for word in group:
                for term in index.weights(word):
                    terms.setdefault(term, self.weight)
        return replace(query, terms=terms)


def _in(phrase: str, text: str) -> bool:
    return bool(re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", text, re.I))
