"""Real servers for the tests: Redis, RabbitMQ and Kafka on random loopback ports.

Redis and RabbitMQ are the programs of the Debian packages `redis-server` and `rabbitmq-server`.
Kafka is the mock cluster inside librdkafka, which speaks the protocol on a real socket.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

RABBITMQ = "/usr/lib/rabbitmq/bin/rabbitmq-server"
PROGRAMS = {"redis": "redis-server", "rabbitmq": RABBITMQ}
KAFKA = """
import sys, time
from confluent_kafka import Producer

mock = Producer({"bootstrap.servers": "", "test.mock.num.brokers": "1", "log_level": 0})
brokers = mock.list_topics(timeout=30).brokers.values()
print(",".join(f"{b.host}:{b.port}" for b in brokers), flush=True)
sys.stdin.read()
"""


class Server(Protocol):
    """A running server that can be filled with events."""

    variable: str
    url: str

    def send(self, rows: Sequence[tuple[str, bytes]]) -> None:
        """Put (key, body) into the stream, in this order."""


def missing(kind: str) -> str:
    """The command that installs what a kind of server needs; empty when it is there."""
    program = PROGRAMS.get(kind)
    if program is None or shutil.which(program):
        return ""
    return "apt-get install -y redis-server rabbitmq-server"


def free_port() -> int:
    with closing(socket.socket()) as each:
        each.bind(("127.0.0.1", 0))
        return int(each.getsockname()[1])


def wait_for(ready: Callable[[], object], child: subprocess.Popen[Any], log: Path) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        assert child.poll() is None, log.read_text()[-2000:]
        try:
            if ready():
                return
        except Exception:
            time.sleep(0.05)
    raise AssertionError(f"not ready: {log.read_text()[-2000:]}")


@contextmanager
def running_program(command: list[str], port: int, log: Path, ready: str = "") -> Iterator[None]:
    """A server process that listens on a port of this machine, and answers at the path `ready`."""
    with log.open("w") as out:
        child = subprocess.Popen(command, stdout=out, stderr=out, cwd=log.parent)
    try:

        def listens() -> bool:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) != 0:
                    raise ConnectionError
            if ready:
                urllib.request.urlopen(f"http://127.0.0.1:{port}{ready}", timeout=5).close()
            return True

        wait_for(listens, child, log)
        yield
    finally:
        child.kill()
        child.wait()


def end(child: subprocess.Popen[Any]) -> None:
    """End a server and everything that it started."""
    with suppress(ProcessLookupError, subprocess.TimeoutExpired):
        os.killpg(child.pid, signal.SIGTERM)
        child.wait(20)
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


class Redis:
    """redis-server with every write on the disk before it is answered."""

    variable = "REDIS_URL"
    stream = "documents"

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.start()

    def start(self) -> None:
        import redis

        log = self.folder / "redis.log"
        options = f"--port {self.port} --bind 127.0.0.1 --appendonly yes --appendfsync always"
        with log.open("a") as out:
            self.child = subprocess.Popen(
                ["redis-server", *options.split(), "--dir", str(self.folder)],
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        self.client = redis.Redis.from_url(self.url)
        wait_for(self.client.ping, self.child, log)

    def stop(self) -> None:
        self.client.close()
        end(self.child)

    def send(self, rows: Sequence[tuple[str, bytes]]) -> None:
        with self.client.pipeline(transaction=False) as pipe:
            for _, body in rows:
                pipe.xadd(self.stream, {"event": body})
            pipe.execute()


class Rabbitmq:
    """rabbitmq-server with a node, a database and a port mapper of its own."""

    variable = "RABBITMQ_URL"
    queue = "documents"

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.mapper = folder, free_port(), free_port()
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/%2F"
        self.environment = {
            **os.environ,
            "HOME": str(folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(free_port()),
            "RABBITMQ_MNESIA_BASE": str(folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(folder / "log"),
            "RABBITMQ_CONFIG_FILE": str(folder / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(folder / "enabled_plugins"),
            "RABBITMQ_PID_FILE": str(folder / "pid"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1",
            "ERL_EPMD_PORT": str(self.mapper),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
        }
        (folder / "enabled_plugins").write_text("[].")
        self.start()

    def start(self) -> None:
        log = self.folder / "rabbitmq.log"
        # the port mapper is started here, so that it ends with the test
        with log.open("a") as out:
            self.epmd = subprocess.Popen(
                ["epmd", "-port", str(self.mapper), "-address", "127.0.0.1"],
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
            self.child = subprocess.Popen(
                [RABBITMQ], env=self.environment, cwd=self.folder,
                stdout=out, stderr=out, start_new_session=True,
            )  # fmt: skip
        wait_for(self._connect, self.child, log)

    def _connect(self) -> bool:
        import pika

        self.connection = pika.BlockingConnection(pika.URLParameters(self.url))
        self.channel = self.connection.channel()
        self.channel.queue_declare(self.queue, durable=True)
        self.channel.confirm_delivery()
        return True

    def stop(self) -> None:
        with suppress(Exception):  # it may be closed already
            self.connection.close()
        end(self.child)
        end(self.epmd)

    def send(self, rows: Sequence[tuple[str, bytes]]) -> None:
        import pika

        if not self.connection.is_open:
            self._connect()
        kept = pika.BasicProperties(delivery_mode=2)
        for _, body in rows:
            self.channel.basic_publish("", self.queue, body, kept)


class Kafka:
    """The mock cluster, in a process that outlives every consumer that is killed."""

    variable = "KAFKA_SERVERS"
    topic = "documents"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.start()

    def start(self) -> None:
        from confluent_kafka import Producer

        with (self.folder / "kafka.log").open("a") as out:
            self.child = subprocess.Popen(
                [sys.executable, "-c", KAFKA], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=out, text=True, start_new_session=True,
            )  # fmt: skip
        assert self.child.stdout is not None
        self.url = self.child.stdout.readline().strip()
        settings = {"bootstrap.servers": self.url, "log_level": 0, "linger.ms": 1}
        self.producer = Producer({**settings, "queue.buffering.max.messages": 1_000_000})

    def stop(self) -> None:
        end(self.child)
        assert self.child.stdin is not None and self.child.stdout is not None
        self.child.stdin.close()
        self.child.stdout.close()

    def send(self, rows: Sequence[tuple[str, bytes]]) -> None:
        for key, body in rows:
            self.producer.produce(self.topic, body, key)
        assert self.producer.flush(30) == 0


SERVERS: dict[str, Callable[[Path], Any]] = {"redis": Redis, "rabbitmq": Rabbitmq, "kafka": Kafka}


@contextmanager
def running(kind: str, folder: Path) -> Iterator[Any]:
    """A server of one kind that ends with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    server = SERVERS[kind](folder)
    try:
        yield server
    finally:
        server.stop()
