"""The promise of a stream: messages in order, each given again until it is acknowledged."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import Field

from llmctl.plugins import Backend


class Gone(Exception):  # noqa: N818
    """The server cannot be reached now; the message is one line without secrets."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came; `lane` and `position` say where it stands.

    Within a lane (a topic's partition, a stream) a larger position is later. A position that is
    empty or of a stream that is not `ordered` says nothing: then the order of arrival counts.
    `handle` is what the stream needs to acknowledge it.
    """

    body: bytes
    lane: str
    position: str = ""
    handle: Any = None


class Live(Protocol):
    """An open stream."""

    def receive(self, limit: int, seconds: float) -> list[Message]:
        """At most `limit` messages; waits `seconds` at most for the first. Raises Gone."""

    def still(self, message: Message) -> bool:
        """Whether what the message points at is as it was when the message was made."""

    def acknowledge(self, messages: Sequence[Message]) -> None:
        """What was received by the last call is kept safe and need not come again. Raises Gone."""

    def lag(self) -> int | None:
        """Messages that wait to be received or acknowledged; None when that is not known."""


class Known(Protocol):
    """What the ledger remembers, for a stream that has no server to remember it."""

    def positions(self, lane: str) -> dict[str, str]:
        """uri -> position of the last event of each document that came by a lane."""

    def knows(self, lane: str) -> bool:
        """Whether anything came by a lane, or it was begun."""

    def begin(self, lane: str) -> None:
        """Remember a lane before anything comes by it."""


class Stream(Backend):
    """A place where JSON events about documents arrive."""

    root: Path | None = Field(
        None,
        description="Folder below which the `path` of an event must lie; null refuses such events.",
    )

    @property
    def ordered(self) -> bool:
        """Whether positions can be compared: an earlier one is then never applied over a later."""
        return False

    @abstractmethod
    def label(self) -> str:
        """The stream in a message, without secrets."""

    @abstractmethod
    def open(self, known: Known) -> AbstractContextManager[Live]:
        """Connect; raises Gone when the server is away."""
