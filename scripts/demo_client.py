"""One question to an OpenAI-compatible server, with the official client; prints JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from openai import OpenAI


def sources_of(extra: dict[str, Any]) -> list[str]:
    """The documents that the answer was given from."""
    names = [
        str(each.get("uri") or each.get("source") or each) for each in extra.get("sources", [])
    ]
    return list(dict.fromkeys(names))


def main(address: str, question: str) -> None:
    """Ask the first model that the server lists."""
    client = OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
    model = client.models.list().data[0].id
    reply = client.chat.completions.create(
        model=model,
        messages=[{"role": "user", "content": question}],
        max_tokens=96,
        temperature=0,
    )
    message = reply.choices[0].message
    extra = {**(reply.model_extra or {}), **(message.model_extra or {})}
    answer = {
        "model": model,
        "question": question,
        "answer": message.content or "",
        "sources": sources_of(extra),
        "tokens": reply.usage.completion_tokens if reply.usage else 0,
    }
    print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
