"""What every engine promises, and the cache that lets a killed run repeat no call."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

from llmctl.generation.spending import CallError, Spending, current
from llmctl.plugins import Backend

Messages = Sequence[dict[str, str]]
T = TypeVar("T")
R = TypeVar("R")
AHEAD = 32
"""Items per thread that are worked on before the first of them is read."""


@dataclass(frozen=True)
class Request:
    """One call: messages in OpenAI's form and how to sample."""

    messages: Messages
    schema: dict[str, Any] | None = None
    max_tokens: int = 256
    temperature: float = 0.0
    seed: int = 0
    stop: Sequence[str] = field(default_factory=tuple)
    penalty: float = 0.0
    """OpenAI's `frequency_penalty`: above 0, a token is less likely the more often it came."""


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
    choices: int | None = 1
    """Most answers to one request of a server's client; None where the endpoint has its own."""
    name: str = ""
    """What the cache knows the model by: its digest where there is one."""
    weights: str = ""
    """sha256 of a local model's file or folder."""
    price: Mapping[str, float] = MappingProxyType({})
    """Per million tokens, `input` and `output`; empty where a call costs nothing."""
    cache: ReplyCache | None = None
    spending: Spending | None = None
    """The account of the run, which may refuse a call."""

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """One call, not cached; may be called from several threads up to `concurrency`."""

    def chat(self, messages: Messages, **options: Any) -> Reply:
        """One call; `options` are the fields of Request."""
        return self._cached(Request(messages, **options))

    def forget(self, messages: Messages, **options: Any) -> None:
        """The reply was of no use: the next run asks again, unless it would hear the same."""
        if self.cache is not None and not self.weights:
            self.cache.remove(self.cache.key(self.name, Request(messages, **options)))

    def chat_many(self, requests: Iterable[Request]) -> Iterator[Reply]:
        """Replies in the order of the requests, `concurrency` at a time."""
        if self.concurrency == 1:
            yield from map(self._cached, requests)
            return
        yield from in_order(self._cached, requests, self.concurrency, self.close)

    def logprobs(self, pairs: Sequence[tuple[str, str]]) -> list[list[float]]:
        """Log-probabilities (nats) of each token of each (context, continuation)."""
        raise NotImplementedError(f"{type(self).__name__} gives no log-probabilities of a prompt")

    def prompt_tokens(self, messages: Messages) -> list[int]:
        """The ids that the model reads of a conversation before it answers."""
        raise NotImplementedError(f"{type(self).__name__} does not tell a prompt's tokens")

    def close(self) -> None:  # noqa: B027 - most have nothing that waits
        """No more calls are wanted: those that wait for another try give up."""

    def _cached(self, request: Request) -> Reply:
        if self.cache is None:
            return self._charged(request)
        key = self.cache.key(self.name, request)
        found = self.cache.get(key)
        if found is None:
            found = self._charged(request)
            self.cache.put(key, found)
        elif self.spending is not None:
            self.spending.add(found, self.price)
        return found

    def _charged(self, request: Request) -> Reply:
        if self.spending is None:
            return self.answer(request)
        self.spending.admit()
        try:
            found = self.answer(request)
        except CallError as error:
            self.spending.fail(error)
            raise
        self.spending.add(found, self.price)
        return found


def in_order(
    work: Callable[[T], R], items: Iterable[T], threads: int, stop: Callable[[], None]
) -> Iterator[R]:
    """`work` of each item in the order of the items, by so many threads.

    When the reader leaves or an item raises, `stop` is called, what runs is waited for and what has
    not begun is not begun.
    """
    if threads == 1:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(threads)
    waiting: deque[Future[R]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) >= AHEAD * threads:  # one slow call does not stop the others
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:
        stop()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class ReplyCache:
    """Replies by (model, parameters, messages, schema) in one SQLite file; no failures."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.Lock()
        self._database = sqlite3.connect(
            path, timeout=60, check_same_thread=False, isolation_level=None
        )
        self._database.execute("PRAGMA journal_mode=WAL")
        # a commit survives the end of the process without waiting for the disk
        self._database.execute("PRAGMA synchronous=NORMAL")
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

    def remove(self, key: str) -> None:
        """Keep a reply no longer."""
        with self._lock:
            self._database.execute("DELETE FROM replies WHERE key = ?", (key,))

    def close(self) -> None:
        """Fold the journal into the file."""
        self._database.close()


class Engine(Backend):
    """A model behind one way of running it; `open` starts it and yields a Session."""

    holds_to_schema: ClassVar[bool] = True
    """Whether a reply can be made to follow a JSON Schema."""

    def open(self, cache: Path | None = None) -> AbstractContextManager[Session]:
        """Start the model; replies are kept in the SQLite file `cache` when it is given."""
        return self._open(cache)

    @contextmanager
    def _open(self, cache: Path | None) -> Iterator[Session]:
        with self.start() as session:
            session.cache = ReplyCache(cache) if cache else None
            session.spending = current()
            try:
                yield session
            finally:
                session.close()
                if session.cache is not None:
                    session.cache.close()

    @abstractmethod
    def start(self) -> AbstractContextManager[Session]:
        """Start the model; it ends with the context."""

    def model_inputs(self) -> dict[str, Path | str]:
        """Field name -> model reference, for the recipe's `inputs`."""
        model = getattr(self, "model", None)
        return {"model": model} if model and type(self).__name__ != "OpenAIEngine" else {}
