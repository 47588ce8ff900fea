"""Any endpoint that speaks OpenAI's chat completions: cloud, vLLM, SGLang, Ollama, llama-server."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field

from llmctl.engines.base import Engine, Reply, Request, Session
from llmctl.errors import LlmctlError, MissingError

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504}


class OpenAIEngine(Engine):
    """A remote model; 429, 5xx and time-outs are tried again with a growing pause."""

    needs: ClassVar[dict[str, str]] = {"httpx": "serve"}

    model: str = Field(min_length=1, description="Name of the model at the endpoint.")
    base_url: str = Field(pattern=r"^https?://", description="Address up to and including /v1.")
    api_key_env: str | None = Field(
        None, description="Environment variable that holds the key; the key is never stored."
    )
    concurrency: int = Field(8, ge=1, le=256, description="Calls at once.")
    timeout: float = Field(120.0, gt=0, description="Seconds until a call is given up.")
    retries: int = Field(6, ge=0, le=20, description="Further tries of a call that failed.")

    def key(self) -> str | None:
        """The API key, from the environment."""
        if self.api_key_env is None:
            return None
        found = os.environ.get(self.api_key_env)
        if not found:
            raise MissingError(f"the environment variable {self.api_key_env} is not set: set it")
        return found

    @contextmanager
    def start(self) -> Iterator[Session]:
        """Open a connection pool."""
        import httpx

        key = self.key()
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        limits = httpx.Limits(max_connections=self.concurrency)
        with httpx.Client(timeout=self.timeout, limits=limits, headers=headers) as client:
            session = HttpSession(client, self.base_url.rstrip("/"), self.model, self.retries)
            session.concurrency = self.concurrency
            session.headers = headers
            yield session


class HttpSession(Session):
    """Calls over HTTP; `base_url` (with /v1) and `headers` serve for passing requests through."""

    def __init__(self, client: Any, base_url: str, model: str, retries: int) -> None:
        self.client = client
        self.base_url = base_url
        self.model = model
        self.retries = retries
        self.name = f"{base_url}#{model}"
        self.headers: Mapping[str, str] = {}

    def answer(self, request: Request) -> Reply:
        """One completion; raises LlmctlError when the endpoint refuses or stays away."""
        data = self._post(body_of(self.model, request))
        try:
            choice = data["choices"][0]
            usage = data.get("usage") or {}
            return Reply(
                choice["message"]["content"] or "",
                int(usage.get("prompt_tokens", 0)),
                int(usage.get("completion_tokens", 0)),
                choice.get("finish_reason") or "stop",
            )
        except (KeyError, IndexError, TypeError):
            raise LlmctlError(f"{self.base_url}: the answer is not a chat completion") from None

    def _post(self, body: dict[str, Any]) -> Any:
        import httpx

        problem = ""
        for attempt in range(self.retries + 1):
            pause = 0.0
            try:
                response = self.client.post(f"{self.base_url}/chat/completions", json=body)
                if response.status_code == 200:
                    return response.json()
                problem = f"HTTP {response.status_code} {response.text[:200]}"
                if response.status_code not in RETRIED:
                    break
                after = response.headers.get("retry-after", "")
                pause = float(after) if after.replace(".", "", 1).isdigit() else 0.0
            except httpx.TransportError as error:
                problem = type(error).__name__
            except ValueError:
                problem = "an answer that is not JSON"
            if attempt < self.retries:
                time.sleep(max(pause, min(30.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)))
        raise LlmctlError(f"{self.base_url}: {problem}")


def body_of(model: str, request: Request) -> dict[str, Any]:
    """The request in OpenAI's form; a schema becomes `response_format`."""
    body: dict[str, Any] = {
        "model": model,
        "messages": list(request.messages),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": request.schema, "strict": True},
        }
    return body
