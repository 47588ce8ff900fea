"""Chat templates by name, for models that have none: a Jinja file each, as the families write.

The first line of a file is a comment: `end` is the token that ends a turn (`eos`: the model's own
end of text), `tokens` are the marks that have to be one token each.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from llmctl.words import nearest

HEAD = re.compile(r"\{# end: (\S+) tokens:(.*?)#\}\n")


@dataclass(frozen=True)
class Template:
    """A chat template and what a tokenizer needs for it."""

    text: str
    tokens: tuple[str, ...] = ()
    end: str | None = None
    """The token that ends a turn; None leaves the model's end of text to do it."""


def names() -> list[str]:
    """The templates that can be named."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.jinja"))


def is_text(value: str) -> bool:
    """Whether a recipe's `chat_template` is a template itself."""
    return "{%" in value or "{{" in value


def is_file(value: str) -> bool:
    """Whether a recipe's `chat_template` is a path."""
    return not is_text(value) and ("/" in value or value.endswith(".jinja"))


def unknown(value: str) -> str | None:
    """What is wrong with a recipe's `chat_template`; None when it is a name, a path or a text."""
    if is_text(value) or is_file(value) or value in names():
        return None
    near = nearest(value, names())
    hint = f", did you mean '{near}'?" if near else ""
    return (
        f"no chat template named '{value}'{hint}; there are: {', '.join(names())}; or a .jinja file"
    )


def find(value: str) -> Template:
    """The template of a recipe's `chat_template`."""
    if is_text(value):
        return Template(value)
    path = Path(value) if is_file(value) else Path(__file__).parent / f"{value}.jinja"
    text = path.read_text(encoding="utf-8")
    head = HEAD.match(text)
    if head is None:
        return Template(text.rstrip("\n"))
    end = None if head[1] == "eos" else head[1]
    return Template(text[head.end() :].rstrip("\n"), tuple(head[2].split()), end)
