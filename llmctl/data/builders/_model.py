"""What builders that ask a model share: its engine, its prompt and its parameters."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field, field_validator

from llmctl.data.builders.base import Builder
from llmctl.data.material import Material, Row
from llmctl.engines.base import Engine
from llmctl.generation import prompts
from llmctl.generation.asking import Writer
from llmctl.records import Dropped, Message

JUDGED = ("judgements", "score", "scores")
"""Fields of `meta` that are about the very words of a row."""


class ModelBuilder(Builder):
    """A builder whose rows a model writes, item by item; a reply out of form is repaired once."""

    blocks: ClassVar[tuple[str, ...]] = ()
    """The blocks that the prompt template has to have."""

    engine: Engine = Field(description="The model that writes.")
    prompt: str | None = Field(
        None,
        min_length=5,
        description="Your own template: a .jinja file (see `llmctl prompts copy`), or the text of "
        "its one block; none takes the one that comes with llmctl.",
    )
    max_tokens: int = Field(400, ge=16, description="Longest reply, in tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the likeliest token.")
    repairs: int = Field(
        1, ge=0, le=5, description="How often a reply out of form is asked for again."
    )

    @field_validator("prompt")
    @classmethod
    def _one_block(cls, given: str | None) -> str | None:
        if given and not given.endswith(prompts.SUFFIX) and len(cls.blocks) > 1:
            raise ValueError(f"give a {prompts.SUFFIX} file; it has the blocks {cls.blocks}")
        return given

    def model_inputs(self) -> dict[str, Path | str]:
        """The engine's model, and the template where it is a file."""
        found = {f"engine.{name}": ref for name, ref in self.engine.model_inputs().items()}
        return found | prompts.inputs(self.prompt)

    def revisions(self) -> dict[str, str]:
        """The version of a template that comes with llmctl: another one gives other rows."""
        return prompts.revisions(self.prompt, self.kind)

    def template(self) -> prompts.Prompt:
        """The prompt template, with every block that is needed."""
        return prompts.chosen(self.prompt, self.kind, self.blocks)

    @contextmanager
    def writer(self, material: Material) -> Iterator[Writer]:
        """Start the engine."""
        template = self.template()
        options = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": material.seed,
        }
        with material.asking.open(self.engine) as asker:
            asker.repairs = self.repairs
            yield Writer(asker, template, options)

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        items = self.items(material)
        with self.writer(material) as writer:
            yield from writer.each(items, lambda item: self.made(writer, item), self.kind)

    @abstractmethod
    def items(self, material: Material) -> Sequence[Row]:
        """What the model is asked about, one after another."""

    @abstractmethod
    def made(self, writer: Writer, item: Row) -> Iterator[Row | Dropped]:
        """The rows of one item; called in several threads at once."""

    def meta(self, writer: Writer, **more: Any) -> dict[str, Any]:
        """The `meta` of a row that a model wrote."""
        return {"builder": self.kind, **more, "generator": writer.generator()}


class ChunkBuilder(ModelBuilder):
    """Makes rows from chunks."""

    max_chunks: int | None = Field(
        None, ge=1, description="Only so many chunks, drawn with the seed; none means all."
    )

    def items(self, material: Material) -> list[Row]:
        """See ModelBuilder."""
        chunks: list[Row] = [*material.chunks]
        if self.max_chunks is None or self.max_chunks >= len(chunks):
            return chunks
        picked = material.random("chunks").sample(range(len(chunks)), self.max_chunks)
        return [chunks[index] for index in sorted(picked)]


def span(chunk: Row) -> dict[str, Any]:
    """The `source` of a row that was written about a chunk."""
    return {**chunk["source"], "chunk": chunk["id"]}


def told(messages: Sequence[Message]) -> str:
    """A conversation as text for a prompt."""
    return "\n\n".join(f"{each['role'].title()}: {each['content']}" for each in messages)


class RowBuilder(ModelBuilder):
    """Makes rows from the rows so far."""

    reads: ClassVar[tuple[str, ...]] = ("examples",)

    def items(self, material: Material) -> list[Row]:
        """See ModelBuilder."""
        return material.rows

    def meta_after(self, writer: Writer, item: Row, **more: Any) -> dict[str, Any]:
        """The `meta` of a row that was made of another: all that was known of that one.

        What wrote it goes to `earlier`, oldest first; judgements of it say nothing of the new row.
        """
        old = {k: v for k, v in item.get("meta", {}).items() if k not in JUDGED}
        if before := {k: old[k] for k in ("builder", "generator") if k in old}:
            old["earlier"] = [*old.get("earlier", []), before]
        return {**old, **self.meta(writer, **more), "from": item["id"]}
