"""Instruction-answer pairs that a model writes about a chunk, in enforced JSON."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Row, drawn
from llmctl.engines.base import Engine
from llmctl.records import example

PROMPT = (
    "Read the text and write {pairs} question(s) that it answers, each with a short answer taken "
    "from the text only.\n\nText:\n{text}"
)


class QaBuilder(Builder):
    """`pairs` rows per chunk; a reply that is cut off or does not fit the schema is dropped."""

    engine: Engine = Field(description="The model that writes.")
    pairs: int = Field(3, ge=1, le=20, description="Pairs asked for per chunk.")
    max_chunks: int | None = Field(
        None, ge=1, description="Only so many chunks, drawn with the seed; none means all."
    )
    max_tokens: int = Field(400, ge=16, description="Longest reply, in tokens.")
    temperature: float = Field(0.0, ge=0, le=2, description="0 always takes the likeliest token.")
    prompt: str = Field(
        PROMPT, min_length=10, description="Prompt with {text} and, if wanted, {pairs}."
    )

    def model_inputs(self) -> dict[str, Path | str]:
        """The engine's model."""
        return {f"engine.{name}": ref for name, ref in self.engine.model_inputs().items()}

    def reply_schema(self) -> dict[str, Any]:
        """What a reply has to look like."""
        text = {"type": "string", "minLength": 3}
        fields = {"question": text, "answer": text}
        item = {
            "type": "object",
            "properties": fields,
            "required": list(fields),
            "additionalProperties": False,
        }
        array = {"type": "array", "items": item, "minItems": self.pairs, "maxItems": self.pairs}
        return {
            "type": "object",
            "properties": {"pairs": array},
            "required": ["pairs"],
            "additionalProperties": False,
        }

    def request(self, chunk: Row, seed: int) -> dict[str, Any]:
        """What one chunk's call asks for."""
        text = self.prompt.replace("{text}", chunk["text"]).replace("{pairs}", str(self.pairs))
        return {
            "messages": [{"role": "user", "content": text}],
            "schema": self.reply_schema(),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": seed,
        }

    def build(self, material: Material) -> Iterator[Row | Dropped]:
        """See Builder."""
        chunks = drawn(material, self.max_chunks)
        with material.asking.open(self.engine) as asker:

            def work(chunk: Row) -> Iterator[Row | Dropped]:
                reply = asker.ask(**self.request(chunk, material.seed))
                return self.rows(chunk, reply["pairs"])

            yield from asker.each(chunks, work, "write questions")

    def rows(self, chunk: Row, pairs: list[dict[str, str]]) -> Iterator[Row | Dropped]:
        """The rows of one reply."""
        for each in pairs:
            question, answer = each["question"].strip(), each["answer"].strip()
            if not question or not answer:
                yield Dropped(chunk["id"], "reply_empty")
                continue
            yield example(
                [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
                {**chunk["source"], "chunk": chunk["id"]},
                {"builder": self.kind, "context": chunk["text"]},
            )
