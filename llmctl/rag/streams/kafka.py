"""A Kafka topic: all its partitions, from the offsets that the group has committed.

The partitions are assigned by hand. The ledger has one writer, so there is nobody to share them
with, and a run that was killed starts again at once instead of waiting for its own old session.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from pydantic import Field

from llmctl.environment import variable
from llmctl.errors import MissingError
from llmctl.rag.streams.base import Gone, Known, Message, Stream
from llmctl.schema.parts import Variable

EXAMPLE = "localhost:9092"
MORE = """'{"security.protocol": "SSL"}'"""
ANSWER = 10.0
"""Seconds that the cluster has for an answer."""
REFRESH = 60.0
"""Seconds between two looks for new partitions."""


class Live:
    """A consumer of every partition of one topic."""

    def __init__(self, stream: KafkaStream, consumer: Any, down: list[str], known: Known) -> None:
        self.stream, self.consumer, self.down, self.known = stream, consumer, down, known
        self.taken: dict[int, int] = {}
        self.lanes: dict[int, str] = {}
        self.looked = 0.0
        self._assign()

    def _assign(self) -> None:
        """Begin at the committed offset of each partition that is not read yet."""
        from confluent_kafka import TopicPartition

        self.looked = time.monotonic()
        found = self.consumer.list_topics(self.stream.topic, timeout=ANSWER)
        names = sorted(found.topics[self.stream.topic].partitions)
        new = [TopicPartition(self.stream.topic, n) for n in names if n not in self.taken]
        if not new:
            return
        start = self.consumer.committed(new, timeout=ANSWER)
        first = [each for each in start if self._begins(each)]
        if first:
            # so that a group without offsets is one that was never here
            self._commit(first)
        self.consumer.incremental_assign(start)
        self.taken |= {each.partition: each.offset for each in start}

    def _begins(self, each: Any) -> bool:
        """Whether a partition is read from its start, where `each.offset` is then set.

        Offsets begin again when a topic was deleted and made anew. Its records must not look like
        ones that were here before, so they get a lane of their own.
        """
        if each.error is not None:
            raise Gone(_line(each.error))
        low, high = self.consumer.get_watermark_offsets(each, timeout=ANSWER)
        lane = f"kafka:{each.topic}/{each.partition}"
        begins = bool(each.offset < 0 or each.offset > high)
        while self.known.knows(lane if begins else lane + "+"):
            lane += "+"
        self.lanes[each.partition] = lane
        if begins:
            self.known.begin(lane)
            each.offset = low
        return begins

    def _commit(self, offsets: Sequence[Any]) -> None:
        for each in self.consumer.commit(offsets=list(offsets), asynchronous=False):
            if each.error is not None:
                raise Gone(_line(each.error))

    def receive(self, limit: int, seconds: float) -> list[Message]:
        """Records, in the order of each partition."""
        with _told():
            if time.monotonic() - self.looked > (REFRESH if self.taken else 1.0):
                self._assign()
            first = self.consumer.poll(seconds)
            found = [] if first is None else [first]
            if found and limit > 1:
                found += self.consumer.consume(limit - 1, timeout=0)
            messages = [self._message(each) for each in found if not self._failed(each)]
        if not messages and self.down:
            raise Gone(self.down[-1])
        self.down.clear()
        return messages

    def _failed(self, record: Any) -> bool:
        from confluent_kafka import KafkaError, KafkaException

        error = record.error()
        if error is None:
            return False
        if error.code() in (KafkaError._PARTITION_EOF, KafkaError._TRANSPORT):
            return True
        raise KafkaException(error)

    def _message(self, record: Any) -> Message:
        lane = self.lanes[record.partition()]
        handle = (record.partition(), record.offset())
        body = record.value()
        if body is None and record.key():  # a tombstone, as compacted topics have them
            uri = record.key().decode("utf-8", "replace")
            body = json.dumps({"op": "delete", "uri": uri}).encode()
        return Message(body or b"", lane, f"{record.offset():020d}", handle)

    def still(self, message: Message) -> bool:
        """A message holds all that it says."""
        return True

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """Commit the offset after the last record of each partition."""
        from confluent_kafka import TopicPartition

        after: dict[int, int] = {}
        for message in messages:
            partition, offset = message.handle
            after[partition] = max(after.get(partition, 0), offset + 1)
        offsets = [TopicPartition(self.stream.topic, n, offset) for n, offset in after.items()]
        with _told():
            self._commit(offsets)
        self.taken |= after

    def lag(self) -> int | None:
        """Records after the committed ones, as far as the cluster has told."""
        from confluent_kafka import TopicPartition

        total = 0
        with _told():
            for partition, offset in self.taken.items():
                each = TopicPartition(self.stream.topic, partition)
                low, high = self.consumer.get_watermark_offsets(each, cached=True) or (-1, -1)
                if high < 0:
                    return None
                total += high - max(offset, low, 0)
        return total


class KafkaStream(Stream):
    """Records of a topic; the value is the event. Give the records of a document one key."""

    needs: ClassVar[dict[str, str]] = {"confluent-kafka": "stream"}

    url_env: Variable = Field(
        "KAFKA_SERVERS",
        description="Environment variable with the bootstrap servers, host:port with commas.",
    )
    settings_env: Variable | None = Field(
        None,
        description="Environment variable with more librdkafka settings as JSON, such as sasl.*.",
    )
    topic: str = Field("documents", min_length=1, max_length=249, description="The topic.")
    group: str = Field("llmctl", min_length=1, description="Group that offsets are committed for.")

    @property
    def ordered(self) -> bool:
        """Offsets grow."""
        return True

    def label(self) -> str:
        """Topic and group."""
        return f"kafka topic {self.topic}, group {self.group}"

    def settings(self) -> dict[str, Any]:
        """What librdkafka is given."""
        own = {
            "bootstrap.servers": variable("source.stream", self.url_env, EXAMPLE),
            "group.id": self.group,
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "queued.max.messages.kbytes": 16384,  # what is read ahead is bounded, per partition
            "fetch.message.max.bytes": 4194304,
            "log_level": 0,
        }
        return {**self._more(), **own}

    def _more(self) -> dict[str, Any]:
        if self.settings_env is None:
            return {}
        try:
            more = json.loads(variable("source.stream", self.settings_env, MORE))
        except ValueError:
            more = None
        if not isinstance(more, dict):
            raise MissingError(f"source.stream: {self.settings_env} is not a JSON object")
        return more

    @contextmanager
    def open(self, known: Known) -> Iterator[Live]:
        """Connect and begin at the committed offsets."""
        from confluent_kafka import Consumer, KafkaError, KafkaException

        down: list[str] = []

        def failed(error: Any) -> None:
            if error.code() == KafkaError._ALL_BROKERS_DOWN:
                down.append(_line(error))

        try:
            consumer = Consumer({**self.settings(), "error_cb": failed})
        except KafkaException as error:
            raise MissingError(f"source.stream: kafka: {_line(error.args[0])}") from None
        try:
            with _told():
                live = Live(self, consumer, down, known)
            yield live
        finally:
            consumer.close()


@contextmanager
def _told() -> Iterator[None]:
    """Errors of the client as ours, in one line."""
    from confluent_kafka import KafkaError, KafkaException

    refused = {
        KafkaError._AUTHENTICATION,
        KafkaError.SASL_AUTHENTICATION_FAILED,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
    }
    try:
        yield
    except KafkaException as error:
        what = error.args[0]
        if what.code() in refused:
            raise MissingError(f"source.stream: kafka refuses: {_line(what)}") from None
        raise Gone(_line(what)) from None


def _line(error: Any) -> str:
    return " ".join(str(error.str() if hasattr(error, "str") else error).split())[:200]
