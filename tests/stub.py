"""A model that says what a test wants it to say, and what is put to judges."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from llmctl.engines.base import Engine, Reply, Request, Session
from llmctl.judges.base import Answered, Contest

Say = Callable[[Request], Any]
QUESTION = [{"role": "user", "content": "What moves the water?"}]


class StubEngine(Engine):
    """`say` gives a reply, a text, or a value that is sent as JSON."""

    say: Any
    concurrency: int = 1
    weights: str = ""

    @contextmanager
    def start(self) -> Iterator[Session]:
        session = StubSession(self.say)
        session.concurrency, session.weights = self.concurrency, self.weights
        yield session


class StubSession(Session):
    def __init__(self, say: Say) -> None:
        self.say = say

    def answer(self, request: Request) -> Reply:
        said = self.say(request)
        if isinstance(said, Reply):
            return said
        return Reply(said if isinstance(said, str) else json.dumps(said), 9, 5, "stop")


def answered(answer: str, **more: Any) -> Answered:
    return Answered(answer, QUESTION, answer, **more)


def contest(first: str, second: str, **more: Any) -> Contest:
    return Contest(f"{first}/{second}", QUESTION, first, second, **more)
