"""Retrieved text in front of a conversation, marked as data; found as `ask` finds it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from llmctl.rag.prompt import RULE, blocks

if TYPE_CHECKING:
    from llmctl.engines.base import Session
    from llmctl.rag.retrieve import Retriever
    from llmctl.schema.serve import Rag

INSTRUCTION = "Answer the user's question from the numbered sources below."


class Documents:
    """Finds sources for a conversation; one question at a time."""

    def __init__(self, retriever: Retriever, rag: Rag, session: Session | None = None) -> None:
        self._retriever = retriever
        self._rag = rag
        self._session = session
        self._lock = threading.Lock()

    def sources(self, messages: list[dict[str, str]]) -> list[dict[str, Any]]:
        """What the last user turn finds: uri, title, score, text, span."""
        question = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
        if not question.strip():
            return []
        with self._lock:
            hits = self._retriever.search(question, self._rag, self._session).hits
        found, room = [], self._rag.max_chars
        for hit in hits:
            if len(hit["text"]) > room:
                continue
            room -= len(hit["text"])
            source = hit["source"]
            found.append(
                {
                    "id": hit["id"],
                    "uri": source.get("uri", hit["id"]),
                    "title": hit["title"],
                    "score": round(hit["score"], 4),
                    "start": source.get("start"),
                    "end": source.get("end"),
                    "text": hit["text"],
                }
            )
        return found


def with_sources(
    messages: list[dict[str, str]], sources: list[dict[str, Any]]
) -> list[dict[str, str]]:
    """The conversation with the sources in its system turn; control tokens in them are removed."""
    if not sources:
        return messages
    shown = blocks([(str(source["uri"]), source["text"]) for source in sources])
    text = "\n\n".join([f"{INSTRUCTION} {RULE}", *shown])
    if messages[0]["role"] == "system":
        return [
            {"role": "system", "content": f"{messages[0]['content']}\n\n{text}"},
            *messages[1:],
        ]
    return [{"role": "system", "content": text}, *messages]
