"""The promise of a reader: one file in, its text, title and meta out, or a reason why not."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pydantic import Field

from llmctl.plugins import Backend


class Unreadable(Exception):  # noqa: N818
    """A file that is not what its name says; `reason` is counted, `detail` is for people."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f"{reason}: {detail}")
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True)
class Parsed:
    """What a reader found; headings are Markdown lines when `headed`, form feeds part pages."""

    text: str
    title: str = ""
    headed: bool = False
    paged: bool = False
    meta: dict[str, Any] = field(default_factory=dict)


class Reader(Backend):
    """Reads the files whose name matches one of its patterns."""

    @property
    def streams(self) -> bool:
        """Whether a file is read one document at a time, so that its size does not matter."""
        return False

    patterns: tuple[str, ...] = Field(
        (), description="File names that this reader takes, as shell patterns."
    )

    def takes(self, path: Path) -> bool:
        """Whether the file's name matches, in any case of letters."""
        return any(fnmatch(path.name.lower(), each.lower()) for each in self.patterns)

    @abstractmethod
    def read(self, path: Path) -> Parsed:
        """The content of a file; raises Unreadable with a reason."""

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """(fragment of the uri, document) of each document in a file; by default one.

        A part that cannot be read is an Unreadable among the documents; raised, it ends the file.
        """
        yield "", self.read(path)


def first(documents: Iterable[tuple[str, Parsed | Unreadable]], none: Unreadable) -> Parsed:
    """The first of a file's documents; raises `none` when there is not one."""
    for _, each in documents:
        if isinstance(each, Unreadable):
            raise each
        return each
    raise none


def decoded(data: bytes, encoding: str = "utf-8") -> str:
    """Text of bytes; refuses what is empty, binary or wrongly encoded."""
    if not data.strip():
        raise Unreadable("empty", f"{len(data)} bytes, no text")
    if b"\0" in data and not encoding.lower().startswith(("utf-16", "utf-32")):
        raise Unreadable("binary", f"a zero byte at offset {data.index(bytes(1))}")
    try:
        text = data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
    except UnicodeDecodeError as error:
        bad = data[error.start]
        line = data[: error.start].count(b"\n") + 1
        raise Unreadable("not_utf8", f"line {line}: byte {bad:#04x} is not {encoding}") from None
    except LookupError:
        raise Unreadable("unknown_encoding", f"no encoding named '{encoding}'") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")
