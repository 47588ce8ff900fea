"""Prompt templates of judges: files in Jinja, rendered in its sandbox."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmctl.errors import InputError

FOLDER = Path(__file__).parent / "prompts"


@dataclass(frozen=True)
class Prompt:
    """A template that was read once; `version` changes with its text."""

    where: str
    text: str

    @cached_property
    def version(self) -> str:
        """The beginning of the text's sha256."""
        return hashlib.sha256(self.text.encode()).hexdigest()[:12]

    @cached_property
    def _template(self) -> Any:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True)
        try:
            return environment.from_string(self.text)
        except TemplateError as error:
            raise InputError(f"{self.where}: is no Jinja template: {error}") from None

    def render(self, **values: Any) -> str:
        """The prompt; a name that is not given is an error that says which."""
        from jinja2 import TemplateError

        try:
            return str(self._template.render(values)).strip()
        except TemplateError as error:
            raise InputError(f"{self.where}: the prompt cannot be rendered: {error}") from None


def prompt_of(own: Path | None, name: str) -> Prompt:
    """The user's file, or the template of that name that comes with llmctl."""
    path = own or FOLDER / f"{name}.jinja"
    try:
        return Prompt(str(path), path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as a prompt: {error}") from None


def conversation(messages: Sequence[Mapping[str, Any]]) -> str:
    """What was asked: the one question, or every turn with its role."""
    if len(messages) == 1:
        return str(messages[0]["content"])
    return "\n\n".join(f"{each['role']}: {each['content']}" for each in messages)
