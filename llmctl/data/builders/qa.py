"""Instruction-answer pairs that a model writes about a chunk, in enforced JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from llmctl.data.builders.base import Builder, Dropped, Material, Usage
from llmctl.engines.base import Engine, Reply, Request
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

    def requests(self, chunks: list[dict[str, Any]], seed: int) -> Iterator[Request]:
        """One call per chunk."""
        for chunk in chunks:
            text = self.prompt.replace("{text}", chunk["text"]).replace("{pairs}", str(self.pairs))
            yield Request(
                [{"role": "user", "content": text}],
                schema=self.reply_schema(),
                max_tokens=self.max_tokens,
                temperature=self.temperature,
                seed=seed,
            )

    def build(self, material: Material, seed: int) -> Iterator[Mapping[str, Any] | Dropped | Usage]:
        """See Builder."""
        from llmctl import ui

        chunks = material.chunks
        if self.max_chunks is not None and self.max_chunks < len(chunks):
            picked = material.random(seed, "chunks").sample(range(len(chunks)), self.max_chunks)
            chunks = [chunks[index] for index in sorted(picked)]
        with (
            self.engine.open(material.cache) as session,
            ui.progress("write questions", len(chunks)) as advance,
        ):
            replies = session.chat_many(self.requests(chunks, seed))
            for chunk, reply in zip(chunks, replies, strict=True):
                yield Usage(reply.prompt_tokens, reply.completion_tokens, reply.cached)
                yield from self.rows(chunk, reply)
                advance()

    def rows(self, chunk: Mapping[str, Any], reply: Reply) -> Iterator[Mapping[str, Any] | Dropped]:
        """The rows of one reply, or why there are none."""
        if reply.finish_reason == "length":
            yield Dropped(chunk["id"], "reply_cut_off", f"{reply.completion_tokens} tokens")
            return
        try:
            pairs = json.loads(reply.text)["pairs"]
            said = [(str(p["question"]).strip(), str(p["answer"]).strip()) for p in pairs]
        except (ValueError, KeyError, TypeError) as error:
            yield Dropped(chunk["id"], "reply_not_in_form", type(error).__name__)
            return
        for question, answer in said:
            if not question or not answer:
                yield Dropped(chunk["id"], "reply_empty")
                continue
            yield example(
                [{"role": "user", "content": question}, {"role": "assistant", "content": answer}],
                {**chunk["source"], "chunk": chunk["id"]},
                {"builder": self.kind, "context": chunk["text"]},
            )
