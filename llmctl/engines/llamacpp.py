"""GGUF models through llama.cpp's own server (xllamacpp), in a child process on a private port.

The child gets its settings as one JSON line on stdin (the key is on no command line), prints its
address when the model is loaded, and ends when its parent does.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from pydantic import Field

from llmctl import processes
from llmctl.engines.base import Engine, Messages, Session
from llmctl.engines.openai import HttpSession
from llmctl.errors import InputError, LlmctlError
from llmctl.generation.spending import CallError
from llmctl.schema.parts import ModelRef

READY_SECONDS = 300


class LlamaCppEngine(Engine):
    """Continuous batching on CPU or GPU; a JSON Schema becomes a grammar."""

    needs: ClassVar[dict[str, str]] = {"xllamacpp": "serve", "httpx": "serve"}

    model: ModelRef
    context: int = Field(2048, ge=128, description="Tokens of context of each slot.")
    threads: int = Field(0, ge=0, le=1024, description="Threads; 0 takes the number of processors.")
    parallel: int = Field(2, ge=1, le=256, description="Slots: requests decoded together.")
    gpu_layers: int = Field(0, ge=0, description="Layers on the GPU, where the build has one.")

    def settings(self) -> dict[str, Any]:
        """What the child is told; `context` is shared out by llama.cpp, so it is multiplied."""
        return {
            "context": self.context * self.parallel,
            "threads": self.threads or processes.processors(),
            "parallel": self.parallel,
            "gpu_layers": self.gpu_layers,
        }

    @contextmanager
    def start(self) -> Iterator[Session]:
        """Start the child, wait until the model is loaded, yield, end the child."""
        import httpx

        from llmctl import digest, modelref

        file = modelref.gguf_file(self.model)
        modelref.check_gguf(file)
        key = secrets.token_hex(16)
        with child({**self.settings(), "model": str(file), "api_key": key}) as address:
            headers = {"Authorization": f"Bearer {key}"}
            limits = httpx.Limits(max_connections=None)
            with httpx.Client(timeout=600, limits=limits, headers=headers) as client:
                session = LlamaCppSession(client, f"{address}/v1", "local", retries=1)
                session.concurrency = session.choices = self.parallel
                session.weights = digest.of_file(file)
                session.name = f"{session.weights}:{self.context}"
                session.headers = headers
                # a penalty looks at the whole answer: by default it forgets all but 64 tokens
                session.extra = {"repeat_last_n": self.context}
                yield session


class LlamaCppSession(HttpSession):
    """As HttpSession; the child has routes of its own."""

    def prompt_tokens(self, messages: Messages) -> list[int]:
        """See Session: the template and the tokenizer of llama.cpp, as its chat route has them."""
        root = self.base_url.removesuffix("/v1")
        text = self._told(f"{root}/apply-template", {"messages": list(messages)})["prompt"]
        asked = {"content": text, "add_special": True, "parse_special": True}
        ids: list[int] = self._told(f"{root}/tokenize", asked)["tokens"]
        return ids

    def _told(self, address: str, body: dict[str, Any]) -> dict[str, Any]:
        import httpx

        try:
            response = self.client.post(address, json=body)
        except httpx.TransportError as error:
            raise CallError(f"{address}: {type(error).__name__}") from None
        found: dict[str, Any] = response.json()
        if response.status_code != 200:
            raise CallError(str(found["error"]["message"]))
        return found


@contextmanager
def child(settings: dict[str, Any]) -> Iterator[str]:
    """Run the server in a child process; yields its address, for example http://127.0.0.1:4711."""
    process = subprocess.Popen(
        [sys.executable, "-m", "llmctl.engines.llamacpp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the parent, which ends the child in order
        # threads that spin while they wait are many times slower when a processor is busy
        env={"OMP_WAIT_POLICY": "passive", **os.environ},
    )
    assert process.stdin and process.stdout and process.stderr
    said: list[str] = []
    listener = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
    listener.start()
    try:
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
        address = process.stdout.readline().strip()
        if not address.startswith("http"):
            process.wait(timeout=30)
            listener.join(timeout=5)
            why = reason(said)
            broken = why.startswith("error loading model")  # else memory, threads …
            kind = InputError if broken else LlmctlError
            raise kind(f"{settings['model']}: llama.cpp cannot load it: {why}")
        yield address
    finally:
        with suppress(OSError):
            process.stdin.close()
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        listener.join(timeout=5)
        process.stderr.close()


def reason(said: Sequence[str]) -> str:
    """Why llama.cpp ended: its first error, which the others follow from, else a line like one."""
    errors = (re.match(r"[\d.]+ E .*?: (.+)", line) for line in said)
    first = next((found[1].strip() for found in errors if found), None)
    alike = (s.strip() for s in reversed(said) if "rror" in s or "fail" in s)
    return first or next(alike, "it gave no reason")


def parameters(settings: dict[str, Any]) -> Any:
    """The settings as llama.cpp's own parameters."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["model"]
    params.n_parallel = settings["parallel"]
    params.n_ctx = settings["context"]
    params.cpuparams.n_threads = settings["threads"]
    params.cpuparams_batch.n_threads = settings["threads"]
    params.n_gpu_layers = settings["gpu_layers"]
    params.cont_batching = True
    params.endpoint_metrics = True
    params.hostnames = ["127.0.0.1"]
    params.port = settings.get("port", 0)
    params.api_keys = [settings["api_key"]]
    params.warmup = False
    return params


def serve_child() -> None:
    """The child: read settings, serve until stdin closes or the parent dies."""
    processes.die_with_parent()
    settings = json.loads(sys.stdin.readline())
    import xllamacpp

    server = xllamacpp.Server(parameters(settings))
    deadline = time.monotonic() + READY_SECONDS
    while not server.listening_address and time.monotonic() < deadline:
        time.sleep(0.05)
    print(server.listening_address, flush=True)
    sys.stdin.read()  # ends when the parent closes it
    os._exit(0)  # llama.cpp's own tear-down is not needed and can hang


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    serve_child()
