"""A RabbitMQ queue: unacknowledged messages go back to the queue in their old order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, ClassVar

from pydantic import Field

from llmctl.environment import variable
from llmctl.errors import MissingError
from llmctl.rag.streams.base import Gone, Known, Message, Stream
from llmctl.schema.parts import Variable

EXAMPLE = "amqp://guest:guest@localhost:5672/%2F"
NOT_FOUND, LOCKED, ACCESS_REFUSED = 404, 405, 403


class Live:
    """A channel that consumes one queue alone."""

    def __init__(self, stream: RabbitmqStream, connection: Any) -> None:
        self.stream, self.connection = stream, connection
        self.waiting: deque[Message] = deque()
        self.channel = self._channel()
        self.cancelled = False
        self.channel.add_on_cancel_callback(self._cancelled)
        self.channel.basic_consume(stream.queue, self._arrived, exclusive=True)

    def _channel(self) -> Any:
        """A channel; the queue is made when it is not there, and taken as it is when it is."""
        import pika.exceptions

        channel = self.connection.channel()
        try:
            channel.queue_declare(self.stream.queue, passive=True)
        except pika.exceptions.ChannelClosedByBroker as error:
            if error.reply_code != NOT_FOUND:
                raise
            channel = self.connection.channel()
            channel.queue_declare(self.stream.queue, durable=True)
        channel.basic_qos(prefetch_count=self.stream.prefetch)
        return channel

    def _arrived(self, channel: Any, method: Any, properties: Any, body: bytes) -> None:
        lane = f"rabbitmq:{self.stream.queue}"
        self.waiting.append(Message(body, lane, "", method.delivery_tag))

    def _cancelled(self, method: Any) -> None:
        self.cancelled = True

    def receive(self, limit: int, seconds: float) -> list[Message]:
        """Messages in the queue's order."""
        with _told():
            if not self.waiting:
                self.connection.process_data_events(time_limit=seconds)
            if len(self.waiting) < limit:  # what is on its way; heartbeats are answered too
                self.connection.process_data_events(time_limit=0.002)
            if self.cancelled or not self.channel.is_open:
                raise Gone("the queue was deleted or the channel closed")
        return [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]

    def still(self, message: Message) -> bool:
        """A message holds all that it says."""
        return True

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """One acknowledgement for all up to the last: they were received in this order."""
        with _told():
            self.channel.basic_ack(messages[-1].handle, multiple=True)

    def lag(self) -> int | None:
        """What the server still holds, with what has arrived and was not given out."""
        with _told():
            declared = self.channel.queue_declare(self.stream.queue, passive=True)
            return int(declared.method.message_count) + len(self.waiting)


class RabbitmqStream(Stream):
    """Messages of a queue; the body is the event. One consumer alone, so that order is kept."""

    needs: ClassVar[dict[str, str]] = {"pika": "stream"}

    url_env: Variable = Field(
        "RABBITMQ_URL",
        description="Environment variable with the address, such as amqp://user:word@host:5672/.",
    )
    queue: str = Field(
        "documents", min_length=1, max_length=255, description="Queue; made durable when absent."
    )
    prefetch: int = Field(
        256, ge=1, le=65535, description="Messages that the server sends ahead of acknowledgement."
    )

    def label(self) -> str:
        """The queue."""
        return f"rabbitmq queue {self.queue}"

    @contextmanager
    def open(self, known: Known) -> Iterator[Live]:
        """Connect and begin to consume."""
        import pika

        url = variable("source.stream", self.url_env, EXAMPLE)
        try:
            parameters = pika.URLParameters(url)
        except (ValueError, TypeError, IndexError, AttributeError):
            raise MissingError(
                f"source.stream: {self.url_env} is not the address of a RabbitMQ server; "
                f"export {self.url_env}={EXAMPLE}"
            ) from None
        if "heartbeat=" not in url:
            parameters.heartbeat = 600  # a snapshot that takes minutes must not look like a death
        connection = None
        try:
            with _told():
                connection = pika.BlockingConnection(parameters)
                live = Live(self, connection)
            yield live
        finally:
            if connection is not None:
                with suppress(Exception):  # a connection that is already gone
                    connection.close()


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the client as ours, in one line."""
    import pika.exceptions as errors

    try:
        yield
    except (errors.ProbableAuthenticationError, errors.ProbableAccessDeniedError):
        raise MissingError("source.stream: rabbitmq refuses the login") from None
    except errors.ChannelClosedByBroker as error:
        if error.reply_code == ACCESS_REFUSED and "exclusive" in error.reply_text:
            raise Gone("another consumer has the queue") from None
        if error.reply_code in (LOCKED, NOT_FOUND):
            raise Gone(error.reply_text) from None
        raise MissingError(f"source.stream: rabbitmq answers: {error.reply_text}") from None
    except (errors.AMQPError, OSError) as error:
        raise Gone(_line(error)) from None


def _line(error: BaseException) -> str:
    inner = getattr(error, "args", ())
    text = str(error) or (repr(inner[0]) if inner else "")
    return " ".join(text.split())[:200] or type(error).__name__
