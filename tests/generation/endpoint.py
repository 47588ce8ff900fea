"""An OpenAI-compatible endpoint that fails on purpose: a program, for tests and benches.

    python endpoint.py LOG [--faults SHARE] [--latency SECONDS] [--limit A_SECOND]

It prints its address; `--port` and `--seed` are there for runs that have to be equal. A good reply
depends on the first user message alone, so that it is the same however often it is asked for. Each
line of LOG tells one request: when its reply was written, its Idempotency-Key, and what it got:
`ok`, or the fault.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import random
import time
from typing import Any

FAULTS = ("429", "500", "silent", "truncated", "half_json", "wrong_schema")
SILENCE = 30.0
"""Seconds that a `silent` call gets no answer; clients give up before."""
WORDS = "pump water valve boiler winter house night room warm cold pipe tap".split()  # noqa: SIM905


def filled(schema: dict[str, Any], seed: bytes, depth: int = 0) -> Any:
    """A value of the form that was asked for, made from `seed`."""
    choice = random.Random(seed + str(depth).encode())
    if "enum" in schema:
        return schema["enum"][0]
    kind = schema.get("type", "string")
    if kind == "object":
        return {
            name: filled(part, seed + name.encode(), depth + 1)
            for name, part in schema["properties"].items()
        }
    if kind == "array":
        count = schema.get("minItems", 1)
        return [filled(schema["items"], seed + bytes([n]), depth + 1) for n in range(count)]
    return " ".join(choice.choices(WORDS, k=9))


def answer(body: dict[str, Any]) -> str:
    """The content of a good reply."""
    first = next(m["content"] for m in body["messages"] if m["role"] == "user")
    seed = hashlib.sha256(first.encode()).digest()
    form = body.get("response_format", {}).get("json_schema", {}).get("schema", {})
    said = filled(form, seed)
    return said if isinstance(said, str) else json.dumps(said)


class Endpoint:
    """The state of one server."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.random = random.Random(options.seed)
        self.log = open(options.log, "a", buffering=1)  # noqa: SIM115 - open as long as the server
        self.window: tuple[int, int] = (0, 0)

    def fault(self) -> str:
        """What goes wrong with this call; empty when nothing does."""
        if self.options.limit:
            second = int(time.monotonic())
            at, count = self.window
            self.window = (second, count + 1 if at == second else 1)
            if self.window[1] > self.options.limit:
                return "429"
        if self.random.random() >= self.options.faults:
            return ""
        return self.random.choice(FAULTS)

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, many requests."""
        try:
            while await self.one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client was killed
        finally:
            writer.close()

    async def one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request; False ends the connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = [line.split(":", 1) for line in head[1:] if ":" in line]
        headers = {name.strip().lower(): value.strip() for name, value in pairs}
        body = json.loads(await reader.readexactly(int(headers["content-length"])))
        fault = self.fault()
        key = headers.get("idempotency-key")
        if fault == "silent":
            self.tell(key, fault)
            await asyncio.sleep(SILENCE)
            return False
        await asyncio.sleep(self.options.latency)
        content = answer(body)
        if fault == "half_json":
            content = content[: len(content) // 2]
        if fault == "wrong_schema":
            content = '{"something": "else"}'
        usage = {"prompt_tokens": 50, "completion_tokens": 20}
        choice = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        data = json.dumps({"choices": [choice], "usage": usage}).encode()
        status = {"429": 429, "500": 500}.get(fault, 200)
        length = len(data)
        if fault == "truncated":
            data = data[: length // 2]
        after = "retry-after: 0.2\r\n" if status == 429 else ""
        line = f"HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n{after}\r\n"
        writer.write(line.encode() + data)
        await writer.drain()
        self.tell(key, fault or "ok")
        return fault != "truncated"

    def tell(self, key: str | None, got: str) -> None:
        """A line of the log."""
        self.log.write(json.dumps({"at": time.time(), "key": key, "got": got}) + "\n")


async def main() -> None:
    """Serve until the process is ended."""
    parser = argparse.ArgumentParser()
    parser.add_argument("log")
    parser.add_argument("--faults", type=float, default=0.0)
    parser.add_argument("--latency", type=float, default=0.02)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    endpoint = Endpoint(parser.parse_args())
    port = endpoint.options.port
    server = await asyncio.start_server(endpoint.handle, "127.0.0.1", port, backlog=1024)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    parent = os.getppid()
    while os.getppid() == parent:  # it ends with whoever began it
        await asyncio.sleep(0.5)


if __name__ == "__main__":
    asyncio.run(main())
