"""What every engine promises, and the cache that lets a killed run repeat no call."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from llmctl.plugins import Backend

Messages = Sequence[dict[str, str]]


@dataclass(frozen=True)
class Request:
    """One call: messages in OpenAI's form and how to sample."""

    messages: Messages
    schema: dict[str, Any] | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: Sequence[str] = field(default_factory=tuple)


@dataclass(frozen=True)
class Reply:
    """What came back; `finish_reason` is `stop` or `length`."""

    text: str
    prompt_tokens: int
    completion_tokens: int
    finish_reason: str
    cached: bool = False


class Session(ABC):
    """A model that is ready to answer."""

    concurrency: int = 1
    """Calls that may run at once."""
    name: str = ""
    """What the cache knows the model by: its digest where there is one."""
    cache: ReplyCache | None = None

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """One call, not cached; may be called from several threads up to `concurrency`."""

    def chat(self, messages: Messages, **options: Any) -> Reply:
        """One call; `options` are the fields of Request."""
        return self._cached(Request(messages, **options))

    def chat_many(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in the order of the requests, `concurrency` at a time."""
        if self.concurrency == 1:
            yield from map(self._cached, requests)
            return
        with ThreadPoolExecutor(self.concurrency) as pool:
            waiting: deque[Future[Reply]] = deque()
            for request in requests:
                waiting.append(pool.submit(self._cached, request))
                if len(waiting) >= 2 * self.concurrency:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Log-probabilities (nats) of each token of each (context, continuation)."""
        raise NotImplementedError(f"{type(self).__name__} gives no log-probabilities of a prompt")

    def _cached(self, request: Request) -> Reply:
        if self.cache is None:
            return self.answer(request)
        key = self.cache.key(self.name, request)
        found = self.cache.get(key)
        if found is None:
            found = self.answer(request)
            self.cache.put(key, found)
        return found


class ReplyCache:
    """Replies by (model, parameters, messages, schema) in one SQLite file; no failures."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        self._database.execute("PRAGMA journal_mode=WAL")
        self._database.execute(
            "CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT)"
        )

    def key(self, model: str, request: Request) -> str:
        """What has to be equal for a reply to be used again."""
        text = json.dumps([model, asdict(request)], sort_keys=True, ensure_ascii=False)
        return hashlib.sha256(text.encode()).hexdigest()

    def get(self, key: str) -> Reply | None:
        """The reply of an earlier call, marked as cached."""
        with self._lock:
            row = self._database.execute(
                "SELECT reply FROM replies WHERE key = ?", (key,)
            ).fetchone()
        return replace(Reply(**json.loads(row[0])), cached=True) if row else None

    def put(self, key: str, reply: Reply) -> None:
        """Keep a reply; it survives a kill."""
        with self._lock:
            self._database.execute(
                "INSERT OR REPLACE INTO replies VALUES (?, ?)", (key, json.dumps(asdict(reply)))
            )

    def close(self) -> None:
        """Fold the journal into the file."""
        self._database.close()


class Engine(Backend):
    """A model behind one way of running it; `open` starts it and yields a Session."""

    def open(self, cache: Path | None = None) -> AbstractContextManager[Session]:
        """Start the model; replies are kept in the SQLite file `cache` when it is given."""
        return self._open(cache)

    @contextmanager
    def _open(self, cache: Path | None) -> Iterator[Session]:
        with self.start() as session:
            session.cache = ReplyCache(cache) if cache else None
            try:
                yield session
            finally:
                if session.cache is not None:
                    session.cache.close()

    @abstractmethod
    def start(self) -> AbstractContextManager[Session]:
        """Start the model; it ends with the context."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Field name -> model reference, for the recipe's `inputs`."""
        model = getattr(self, "model", None)
        return {"model": model} if model and type(self).__name__ != "OpenAIEngine" else {}
