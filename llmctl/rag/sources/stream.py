"""What a stream has delivered: `llmctl ingest --follow` fills the ledger, a snapshot reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from llmctl.errors import InputError
from llmctl.rag.readers.base import Unreadable
from llmctl.rag.sources.base import Source, Unit
from llmctl.rag.streams.base import Stream

if TYPE_CHECKING:
    from llmctl.rag.ledger import Ledger


class StreamSource(Source):
    """The documents of the ledger as they are now; dead letters are reported as left out."""

    stream: Stream = Field(description="Where the events arrive.")
    ledger: Path = Field(
        description="Folder that keeps what was received; keep it as long as the artifact."
    )
    batch: int = Field(
        256, ge=1, le=100_000, description="Most messages that are received and kept together."
    )
    publish_seconds: float = Field(
        30, gt=0, description="Seconds between two snapshots while documents change."
    )
    publish_documents: int = Field(
        5000, ge=1, description="Changed documents after which a snapshot does not wait longer."
    )
    until_idle: float | None = Field(
        None, gt=0, description="End after so many seconds without a message; null never does."
    )
    max_events: int | None = Field(
        None, ge=1, description="End after so many messages; null never does."
    )
    give_up_after: float = Field(
        600, ge=0, description="Seconds that a server may be away before the run ends."
    )

    def units(self, scratch: Path) -> Iterator[Unit]:
        """Every document, in the order of the uris, then the dead letters."""
        from llmctl.rag.events import parsed_of

        with self._opened() as ledger:
            for uri, digest, row in ledger.rows():
                yield Unit(uri, parsed=parsed_of(row), digest=digest)
            for uri, reason, detail in ledger.dead():
                yield Unit(uri, error=Unreadable(reason, detail))

    @contextmanager
    def _opened(self) -> Iterator[Ledger]:
        """The ledger, for reading."""
        from sqlite3 import Error

        from llmctl.rag.ledger import Ledger

        if not self.exists():
            raise InputError(
                f"source.ledger: {self.ledger} holds nothing yet; run `llmctl ingest` with --follow"
            )
        ledger = Ledger(self.ledger)
        try:
            yield ledger
        except Error as error:
            raise InputError(f"source.ledger: {self.file()} cannot be read: {error}") from None
        finally:
            ledger.close()

    def exists(self) -> bool:
        """Whether anything was ever received."""
        return self.file().is_file()

    def file(self) -> Path:
        """The ledger's database."""
        from llmctl.rag.ledger import FILE

        return self.ledger / FILE

    def label(self) -> str:
        """The stream."""
        return self.stream.label()

    def revisions(self) -> dict[str, str]:
        """The ledger's revision decides whether a snapshot is needed."""
        if not self.exists():
            return {"": "revision 0"}
        with self._opened() as ledger:
            return {"": f"revision {ledger.revision}"}
