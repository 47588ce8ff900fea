"""Prompt templates: Jinja files of named blocks, rendered in Jinja's sandbox.

A block becomes one message, so nothing in a text that is put into it can open another message.
`{% block system %}` is sent in front of every other block of its file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from llmctl import ui
from llmctl.errors import RecipeError
from llmctl.words import nearest

FOLDER = Path(__file__).parent.parent / "prompts"
SUFFIX = ".jinja"


@dataclass(frozen=True)
class Prompt:
    """A template as it was read."""

    name: str
    text: str

    @property
    def digest(self) -> str:
        """sha256 of the template's text."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def version(self) -> str:
        """`name@` and the first digits of the digest: what rows and the manifest tell."""
        return f"{self.name}@{self.digest[:8]}"

    @cached_property
    def _template(self) -> Any:
        from jinja2 import StrictUndefined, TemplateError
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
        )
        try:
            return environment.from_string(self.text)
        except TemplateError as error:
            line = getattr(error, "lineno", None)
            where = f"{self.name}:{line}" if line else self.name
            raise RecipeError(f"{where}: not a Jinja template: {error}") from None

    def check(self, blocks: Sequence[str]) -> None:
        """Refuse a template that lacks a block."""
        lacking = [name for name in blocks if name not in self._template.blocks]
        if lacking:
            has = ", ".join(sorted(self._template.blocks)) or "none"
            raise RecipeError(
                f"{self.name}: has no block {', '.join(lacking)} (blocks in it: {has}); "
                f"`llmctl prompts list` names the templates to start from"
            )

    def messages(self, block: str, **variables: Any) -> list[dict[str, str]]:
        """The messages of one block."""
        turns = []
        if "system" in self._template.blocks:
            turns.append({"role": "system", "content": self._rendered("system", variables)})
        turns.append({"role": "user", "content": self._rendered(block, variables)})
        return turns

    def _rendered(self, block: str, variables: dict[str, Any]) -> str:
        from jinja2 import TemplateError

        try:
            context = self._template.new_context(variables)
            return "".join(self._template.blocks[block](context)).strip()
        except TemplateError as error:
            known = ", ".join(sorted(variables))
            raise RecipeError(f"{self.name}: block {block}: {error}; variables: {known}") from None
        except Exception as error:  # a template may fail in any way: 1 / 0, a wrong type
            raise RecipeError(f"{self.name}: block {block}: {error}") from None


def bundled(name: str) -> Prompt:
    """A template that comes with llmctl."""
    return Prompt(name, (FOLDER / f"{name}{SUFFIX}").read_text(encoding="utf-8"))


def own(given: str, block: str) -> Prompt:
    """A user's template: a .jinja file, or the text of the one block.

    In a text without Jinja, `{name}` stands for `{{ name }}`, as it did before there was Jinja.
    """
    if given.endswith(SUFFIX):
        try:
            return Prompt(given, Path(given).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError) as error:
            raise RecipeError(f"{given}: the prompt cannot be read: {error}") from None
    if "{{" not in given and "{%" not in given:
        given = re.sub(r"\{(\w+)\}", r"{{ \1 }}", given)
    return Prompt("inline", f"{{% block {block} %}}{given}{{% endblock %}}")


def chosen(given: str | None, name: str, blocks: Sequence[str]) -> Prompt:
    """The template that a step uses: a user's, with every block that is needed, or its own."""
    if given is None:
        return bundled(name)
    found = own(given, blocks[0])
    found.check(blocks)
    return found


def inputs(given: str | None) -> dict[str, Path | str]:
    """A user's template as an input, where it is a file."""
    return {"prompt": Path(given)} if given and given.endswith(SUFFIX) else {}


def revisions(given: str | None, name: str) -> dict[str, str]:
    """The version of a template that comes with llmctl: another one gives other rows."""
    return {} if given else {"prompt": bundled(name).version}


def names() -> list[str]:
    """The templates that come with llmctl."""
    return sorted(path.stem for path in FOLDER.glob(f"*{SUFFIX}"))


def find(name: str) -> Prompt:
    """A template that comes with llmctl; an unknown name is an error with the nearest."""
    name = name.removesuffix(SUFFIX)
    if name not in names():
        near = nearest(name, names())
        hint = f", did you mean '{near}'?" if near else ""
        raise RecipeError(f"no prompt named '{name}'{hint}; there are: {', '.join(names())}")
    return bundled(name)


def about(prompt: Prompt) -> str:
    """What a template is for: its opening comment."""
    comment = re.match(r"\{#(.*?)#\}", prompt.text, re.DOTALL)
    return " ".join(comment[1].split()) if comment else ""


def show_list() -> None:
    """Print the templates on stdout."""
    ui.result_table("", ["prompt", "about"], [[n, about(bundled(n))] for n in names()])


def copy(name: str, target: Path, *, force: bool = False) -> Path:
    """Copy a template to a file or into a folder, for editing."""
    prompt = find(name)
    if target.is_dir() or target.suffix != SUFFIX:
        target = target / f"{prompt.name}{SUFFIX}"
    if target.exists() and not force:
        raise RecipeError(f"{target}: is there already; use --force to replace it")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(prompt.text, encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{target} cannot be written: {error.strerror}") from None
    return target
