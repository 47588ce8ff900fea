"""Any endpoint that speaks OpenAI's embeddings: cloud, vLLM, Ollama, llama-server, TEI."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import Field

from llmctl.engines.openai import without_answer
from llmctl.environment import variable
from llmctl.errors import LlmctlError
from llmctl.rag.embedders._vectors import Prompts, unit
from llmctl.rag.embedders.base import Embedder
from llmctl.schema.parts import Address, Variable

if TYPE_CHECKING:
    import numpy as np

PASSING = {408, 409, 425, 429, 500, 502, 503, 504}
"""Statuses of trouble that may be over a little later."""
LONGEST_PAUSE = 30.0


class Endpoint:
    """A connection pool to one model."""

    def __init__(self, embedder: OpenAIEmbedder, client: Any) -> None:
        self.settings, self._client = embedder, client
        self.cut: Sequence[int] = ()
        self.prompts = Prompts(embedder.text_prefix, embedder.query_prefix)
        self.dimensions = self._embed(["a"]).shape[1]

    def texts(self, texts: Sequence[str]) -> np.ndarray:
        """Vectors of stored texts, shape (texts, dimensions)."""
        limit = self.settings.max_chars
        self.cut = [i for i, each in enumerate(texts) if limit is not None and len(each) > limit]
        return self._embed([self.prompts.text + each[:limit] for each in texts])

    def query(self, text: str) -> np.ndarray:
        """Vector of a question."""
        vector: np.ndarray = self._embed([self.prompts.query + text[: self.settings.max_chars]])[0]
        return vector

    def _embed(self, texts: Sequence[str]) -> np.ndarray:
        import numpy as np

        if not texts:
            return np.zeros((0, self.dimensions), dtype=np.float32)
        # texts of nearly one length go together: a server pads a batch to its longest
        order = sorted(range(len(texts)), key=lambda place: (len(texts[place]), place))
        size = self.settings.batch_size
        batches = [order[first : first + size] for first in range(0, len(order), size)]
        with ThreadPoolExecutor(self.settings.concurrency) as pool:
            asked = ([texts[place] for place in batch] for batch in batches)
            found = np.concatenate(list(pool.map(self._vectors, asked)))
        back = np.argsort([place for batch in batches for place in batch])
        return unit(found[back], self.settings.dimensions, self.settings.model)

    def _vectors(self, texts: Sequence[str]) -> np.ndarray:
        """One call; the vectors come in the order of `index`, whatever the server's order is."""
        import numpy as np

        body: dict[str, Any] = {"model": self.settings.model, "input": list(texts)}
        if self.settings.send_dimensions:
            body["dimensions"] = self.settings.dimensions
        answer = self._post({**body, "encoding_format": "float"})
        try:
            rows = sorted(answer["data"], key=lambda each: int(each["index"]))
            found = np.asarray([each["embedding"] for each in rows], dtype=np.float32)
            whole = found.shape[0] == len(texts) and found.ndim == 2 and found.shape[1] > 0
        except (KeyError, TypeError, ValueError):
            whole = False
        if not whole:
            raise LlmctlError(f"{self.settings.base_url}: the answer is no list of vectors")
        if not (np.isfinite(found).all() and (found != 0).any(axis=1).all()):
            raise LlmctlError(f"{self.settings.base_url}: a vector has no length or is no number")
        return found

    def _post(self, body: dict[str, Any]) -> Any:
        """Trouble that may pass is tried again with a growing pause, or when the server says."""
        import httpx

        url, problem = f"{self.settings.base_url.rstrip('/')}/embeddings", ""
        for attempt in range(self.settings.retries + 1):
            wanted = 0.0
            try:
                response = self._client.post(url, json=body)
                if response.status_code == 200:
                    return response.json()
                problem = f"HTTP {response.status_code} {' '.join(response.text.split())[:200]}"
                if response.status_code not in PASSING:
                    break
                after = response.headers.get("retry-after", "")
                wanted = float(after) if after.isdigit() else 0.0
            except httpx.TransportError as error:
                problem = without_answer(error)
            except ValueError:
                problem = "an answer that is not JSON"
            if attempt < self.settings.retries:
                pause = min(LONGEST_PAUSE, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)
                time.sleep(max(wanted, pause))
        raise LlmctlError(f"{self.settings.base_url}: {problem}")


class OpenAIEmbedder(Embedder):
    """A remote model, known by its name; a store refuses it when its vectors have changed."""

    needs: ClassVar[dict[str, str]] = {"httpx": "rag"}
    remote: ClassVar[bool] = True

    model: str = Field(min_length=1, description="Name of the model at the endpoint.")
    base_url: Address
    api_key_env: Variable | None = Field(
        None, description="Environment variable that holds the key; the key is never stored."
    )
    batch_size: int = Field(64, ge=1, le=2048, description="Texts in one call.")
    concurrency: int = Field(4, ge=1, le=256, description="Calls at once.")
    timeout: float = Field(120.0, gt=0, description="Seconds until a call is given up.")
    retries: int = Field(6, ge=0, le=20, description="Further tries of a call that failed.")
    max_chars: int | None = Field(
        None, ge=8, description="Longest text that is sent, in characters; the rest is cut off."
    )
    dimensions: int | None = Field(
        None,
        ge=8,
        description="Only the first numbers of a vector, for models trained for that (Matryoshka).",
    )
    send_dimensions: bool = Field(
        False, description="Ask the endpoint for `dimensions` instead of cutting here."
    )
    text_prefix: str = Field("", description="Put before each stored text, as some models ask.")
    query_prefix: str = Field("", description="Put before each question, as some models ask.")

    @contextmanager
    def open(self) -> Iterator[Endpoint]:
        """Open a connection pool, and ask for one vector to learn how long they are."""
        import httpx

        headers = {}
        if self.api_key_env is not None:
            key = variable("embedder.api_key_env", self.api_key_env)
            headers["Authorization"] = f"Bearer {key}"
        limits = httpx.Limits(max_connections=self.concurrency)
        with httpx.Client(timeout=self.timeout, limits=limits, headers=headers) as client:
            yield Endpoint(self, client)
