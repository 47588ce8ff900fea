"""A Redis stream read through a consumer group; the group remembers what was acknowledged."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from pydantic import Field

from llmctl.environment import variable
from llmctl.errors import MissingError
from llmctl.rag.streams.base import Gone, Known, Message, Stream
from llmctl.schema.parts import Variable

EXAMPLE = "redis://localhost:6379/0"
PATIENCE = 30.0
"""Seconds after which a silent server counts as gone."""


class Live:
    """A connection. Entries that a killed run received come first, then new ones."""

    def __init__(self, stream: RedisStream, client: Any) -> None:
        self.stream, self.client = stream, client
        self.pending: str | None = "0"
        self.claimed = 0.0

    def receive(self, limit: int, seconds: float) -> list[Message]:
        """Entries of the stream, oldest first."""
        with _told():
            if self.pending is None and time.monotonic() - self.claimed >= self.stream.claim_after:
                self._claim()
            if self.pending is not None:
                found = self._read(self.pending, limit, None)
                self.pending = found[-1].handle if found else None
                if found:
                    return found
            return self._read(">", limit, max(1, int(seconds * 1000)))

    def _read(self, after: str, limit: int, wait_ms: int | None) -> list[Message]:
        own = self.stream
        try:
            answer = self.client.xreadgroup(
                own.group, own.consumer, {own.stream: after}, count=limit, block=wait_ms
            )
        except Exception as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self.create()  # the stream was deleted, or the server came back without its data
            return []
        entries = answer[0][1] if answer else []
        return [self._message(name.decode(), fields) for name, fields in entries]

    def _message(self, name: str, fields: dict[bytes, bytes] | None) -> Message:
        # an entry that was trimmed while it waited has no fields: it becomes a dead letter
        body = (fields or {}).get(self.stream.field.encode(), b"")
        first, _, second = name.partition("-")
        position = f"{int(first):020d}-{int(second):020d}"
        return Message(body, f"redis:{self.stream.stream}", position, name)

    def _claim(self) -> None:
        """Take over what another consumer of the group left lying."""
        own = self.stream
        # what is taken over is no longer idle, so that the next call finds the rest
        while self.client.xautoclaim(
            own.stream,
            own.group,
            own.consumer,
            int(own.claim_after * 1000),
            count=1000,
            justid=True,
        ):
            self.pending = "0"
        self.claimed = time.monotonic()

    def still(self, message: Message) -> bool:
        """A message holds all that it says."""
        return True

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Tell the group."""
        with _told():
            names = [message.handle for message in messages]
            self.client.xack(self.stream.stream, self.stream.group, *names)

    def lag(self) -> int | None:
        """What the group has not read yet, with what it has not acknowledged."""
        with _told():
            for group in self.client.xinfo_groups(self.stream.stream):
                if group["name"] == self.stream.group.encode():
                    unread = group.get("lag")
                    return None if unread is None else int(unread) + int(group["pending"])
        return None

    def create(self) -> None:
        """The group, from the first entry on; one that is there keeps its place."""
        try:
            self.client.xgroup_create(self.stream.stream, self.stream.group, id="0", mkstream=True)
        except Exception as error:
            if not str(error).startswith("BUSYGROUP"):
                raise


class RedisStream(Stream):
    """Entries of a Redis stream; the event is the JSON text in one field of the entry."""

    needs: ClassVar[dict[str, str]] = {"redis": "stream"}

    url_env: Variable = Field(
        "REDIS_URL",
        description="Environment variable with the address, such as redis://localhost:6379/0.",
    )
    stream: str = Field("documents", min_length=1, description="Name of the Redis stream.")
    group: str = Field("llmctl", min_length=1, description="Name of the consumer group.")
    consumer: str = Field("llmctl", min_length=1, description="Name within the group.")
    field: str = Field("event", min_length=1, description="Field of an entry that holds the event.")
    claim_after: float = Field(
        60, gt=0, description="Seconds after which what another consumer left lying is taken over."
    )

    @property
    def ordered(self) -> bool:
        """The ids of entries grow."""
        return True

    def label(self) -> str:
        """Stream and group."""
        return f"redis stream {self.stream}, group {self.group}"

    @contextmanager
    def open(self, known: Known) -> Iterator[Live]:
        """Connect and see that the group is there."""
        import redis
        from redis.backoff import NoBackoff
        from redis.retry import Retry

        url = variable("source.stream", self.url_env, EXAMPLE)
        try:
            client = redis.Redis.from_url(
                url,
                socket_timeout=PATIENCE,
                socket_connect_timeout=5,
                retry=Retry(NoBackoff(), 0),  # the loop that follows the stream tries again itself
                protocol=2,
            )
        except ValueError:
            raise MissingError(
                f"source.stream: {self.url_env} is not the address of a Redis server; "
                f"export {self.url_env}={EXAMPLE}"
            ) from None
        live = Live(self, client)
        try:
            with _told():
                live.create()
            yield live
        finally:
            with suppress(Exception):  # a connection that is already gone
                client.close()


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the client as ours, in one line."""
    import redis

    try:
        yield
    except (redis.AuthenticationError, redis.exceptions.NoPermissionError) as error:
        raise MissingError(f"source.stream: redis refuses the login: {_line(error)}") from None
    except (redis.ConnectionError, redis.TimeoutError) as error:
        raise Gone(_line(error)) from None
    except redis.ResponseError as error:
        raise MissingError(f"source.stream: redis answers: {_line(error)}") from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
