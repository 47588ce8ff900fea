"""Any endpoint that speaks OpenAI's chat completions: cloud, vLLM, SGLang, Ollama, llama-server."""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import Any, ClassVar

from pydantic import Field

from llmctl.engines._pace import Pace
from llmctl.engines.base import Engine, Reply, Request, Session
from llmctl.environment import variable
from llmctl.errors import LlmctlError
from llmctl.generation.spending import CallError
from llmctl.schema.parts import Address, Price, Variable

RETRIED = {408, 409, 425, 429, 500, 502, 503, 504, 529}
TOO_MANY = 429
REFUSED = {401, 403, 404}
"""No call will do better: the key or the address is wrong."""
LONGEST_PAUSE = 30.0
PATIENCE = 600.0
"""Seconds during which a 429 is tried again, however often it comes."""


class OpenAIEngine(Engine):
    """A remote model; 429, 5xx and time-outs are tried again with a growing pause."""

    needs: ClassVar[dict[str, str]] = {"httpx": "serve"}

    model: str = Field(min_length=1, description="Name of the model at the endpoint.")
    base_url: Address
    api_key_env: Variable | None = Field(
        None, description="Environment variable that holds the key; the key is never stored."
    )
    concurrency: int = Field(8, ge=1, le=256, description="Calls at once.")
    timeout: float = Field(120.0, gt=0, description="Seconds until a call is given up.")
    retries: int = Field(
        6, ge=0, le=20, description="Further tries of a failed call; a 429 does not use them up."
    )
    price: Price = Field(default_factory=dict)

    def key(self) -> str | None:
        """The API key, from the environment."""
        return None if self.api_key_env is None else variable("api_key_env", self.api_key_env)

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
            session.pace = Pace(self.concurrency)
            session.price = {str(name): each for name, each in self.price.items()}
            session.headers = headers
            yield session


def without_answer(error: Exception) -> str:
    """What to say of an endpoint that a call did not reach, or that did not answer."""
    name = type(error).__name__
    return f"{name}; does it run there?" if name == "ConnectError" else name


class HttpSession(Session):
    """Calls over HTTP; `base_url` (with /v1) and `headers` serve for passing requests through."""

    def __init__(self, client: Any, base_url: str, model: str, retries: int) -> None:
        self.client = client
        self.base_url = base_url
        self.model = model
        self.retries = retries
        self.name = f"{base_url}#{model}"
        self.headers: Mapping[str, str] = {}
        self.extra: Mapping[str, Any] = {}
        """Parameters of this endpoint alone, sent with each call."""
        self.pace = Pace(1 << 20)
        self.choices = None
        self._closing = threading.Event()

    def close(self) -> None:
        """See Session."""
        self._closing.set()

    def answer(self, request: Request) -> Reply:
        """One completion; raises CallError when the endpoint refuses it or stays away."""
        data = self._post({**body_of(self.model, request), **self.extra})
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
            raise CallError(f"{self.base_url}: the answer is not a chat completion") from None

    def _post(self, body: dict[str, Any]) -> Any:
        """The answer's JSON; failures that may pass are tried again after a growing pause."""
        import httpx

        content = json.dumps(body, ensure_ascii=False).encode()
        headers = {
            "Content-Type": "application/json",
            # a gateway that knows the header charges a repeated call only once
            "Idempotency-Key": hashlib.sha256(content).hexdigest(),
        }
        problem, tried, began = "", 0, time.monotonic()
        while not self._closing.is_set():
            after, throttled = 0.0, False
            try:
                with self.pace.slot():
                    response = self.client.post(
                        f"{self.base_url}/chat/completions", content=content, headers=headers
                    )
                if response.status_code == 200:
                    found = response.json()
                    self.pace.answered()
                    return found
                problem = f"HTTP {response.status_code} {response.text[:200]}".strip()
                if response.status_code in REFUSED:
                    raise LlmctlError(f"{self.base_url}: {problem}")
                if response.status_code not in RETRIED:
                    break
                after = min(retry_after(response.headers.get("retry-after", "")), self._left())
                throttled = response.status_code == TOO_MANY
            except httpx.TransportError as error:
                problem = without_answer(error)
            except ValueError:
                problem = "an answer that is not JSON"
            if throttled and self.retries and time.monotonic() - began < PATIENCE:
                self.pace.refused(after)
                self._wait(max(after, 0.1 * random.uniform(0.5, 1.5)))
                continue
            tried += 1
            if tried > self.retries:
                break
            pause = min(LONGEST_PAUSE, 0.5 * 2 ** (tried - 1)) * random.uniform(0.5, 1.0)
            self._wait(max(after, pause))
        raise CallError(f"{self.base_url}: {problem or 'the run is ending'}")

    def _wait(self, seconds: float) -> None:
        """Pause before another try, not beyond the time that the run has."""
        self._closing.wait(min(seconds, self._left()))
        if self.spending is not None:
            self.spending.go_on()

    def _left(self) -> float:
        return math.inf if self.spending is None else self.spending.seconds_left()


def retry_after(header: str) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 without a meaning.

    At most PATIENCE, whatever it says.
    """
    try:
        asked = float(header)
    except ValueError:
        try:
            asked = parsedate_to_datetime(header).timestamp() - time.time()
        except (ValueError, TypeError):
            return 0.0
    return 0.0 if math.isnan(asked) else min(PATIENCE, max(0.0, asked))


def body_of(model: str, request: Request) -> dict[str, Any]:
    """The request in OpenAI's form; a schema becomes `response_format`."""
    body: dict[str, Any] = {
        "model": model,
        "messages": list(request.messages),
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "seed": request.seed,
    }
    if request.penalty:
        body["frequency_penalty"] = request.penalty
    if request.stop:
        body["stop"] = list(request.stop)
    if request.schema is not None:
        body["response_format"] = {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": request.schema, "strict": True},
        }
    return body
