"""Markdown with YAML front matter: the front matter is meta, the rest is the text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml
from pydantic import Field

from llmctl.rag.outline import outline
from llmctl.rag.readers.base import Parsed, Reader, decoded

FRONT = re.compile(r"\A---[ \t]*\n(.*?\n)?---[ \t]*(?:\n|\Z)", re.S)


class MarkdownReader(Reader):
    """The title is the front matter's, else the first heading."""

    patterns: tuple[str, ...] = Field(
        ("*.md", "*.markdown"), min_length=1, description="File names that are Markdown."
    )

    def read(self, path: Path) -> Parsed:
        """The text after the front matter."""
        text, meta = split_front(decoded(path.read_bytes()))
        headings = outline(text)
        title = str(meta.pop("title", "") or "") or (headings[0].title if headings else "")
        return Parsed(text, title, headed=True, meta=meta)


def split_front(text: str) -> tuple[str, dict[str, Any]]:
    """(text, front matter); front matter that is not a YAML mapping stays in the text."""
    match = FRONT.match(text)
    if match is None:
        return text, {}
    try:
        # aliases can grow a few bytes into gigabytes, and front matter has no use for them
        if any(isinstance(each, yaml.AliasEvent) for each in yaml.parse(match[1] or "")):
            return text, {}
        front = yaml.safe_load(match[1] or "")
    except (yaml.YAMLError, ValueError, RecursionError):
        return text, {}
    if not isinstance(front, dict):
        return text, {}
    return text[match.end() :], {str(key): value for key, value in front.items()}
