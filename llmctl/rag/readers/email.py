"""E-mail: a message (.eml) or many (.mbox), each a document with who, when and about what."""

from __future__ import annotations

import email
import email.policy
from collections.abc import Iterator
from contextlib import suppress
from email.message import EmailMessage
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from llmctl.rag.fields import LONGEST
from llmctl.rag.readers.base import Parsed, Reader, Unreadable, first
from llmctl.rag.readers.html import parse_html

BOXES = (".mbox", ".mbx")
LOCKED = ("multipart/encrypted", "application/pkcs7-mime", "application/x-pkcs7-mime")


class EmailReader(Reader):
    """The plain text of a message, else its HTML; attachments are named, not read."""

    needs: ClassVar[dict[str, str]] = {"beautifulsoup4": "rag"}

    patterns: tuple[str, ...] = Field(
        ("*.eml", "*.mbox", "*.mbx"), min_length=1, description="File names that are e-mail."
    )

    @property
    def streams(self) -> bool:
        """A message at a time; one message has a limit of its own."""
        return True

    def read(self, path: Path) -> Parsed:
        """The first message."""
        return first(self.read_all(path), Unreadable("empty", "no message"))

    def read_all(self, path: Path) -> Iterator[tuple[str, Parsed | Unreadable]]:
        """Every message; in a mailbox the fragment is its message id, else its number."""
        if path.suffix.lower() not in BOXES:
            if path.stat().st_size > LONGEST:
                raise Unreadable("too_large", f"a message of more than {LONGEST} bytes")
            yield "", _parsed(path.read_bytes())[1]
            return
        seen: set[str] = set()
        for number, data in enumerate(messages(path), 1):
            if isinstance(data, Unreadable):
                yield f"message={number}", data
                continue
            try:
                name, parsed = _parsed(data)
            except Unreadable as error:
                yield f"message={number}", error
                continue
            if not name or name in seen:
                name = f"message={number}"
            seen.add(name)
            yield name, parsed


def messages(path: Path) -> Iterator[bytes | Unreadable]:
    """The messages of a mailbox (RFC 4155 with `>From ` quoting), one at a time."""
    with path.open("rb") as file:
        first = file.readline(LONGEST)
        if not first:
            raise Unreadable("empty", "0 bytes, no text")
        if not first.startswith(b"From "):
            raise Unreadable("not_mbox", "a mailbox begins with a line `From ...`")
        kept: list[bytes] = []
        size = 0
        blank = False
        while line := file.readline(LONGEST):
            if blank and line.startswith(b"From "):
                yield _whole(kept, size)
                kept, size, blank = [], 0, False
                continue
            blank = line in (b"\n", b"\r\n")
            size += len(line)
            if size <= LONGEST:
                kept.append(line[1:] if line.lstrip(b">").startswith(b"From ") else line)
        yield _whole(kept, size)


def _whole(lines: list[bytes], size: int) -> bytes | Unreadable:
    if size > LONGEST:
        return Unreadable("too_large", f"a message of {size} > {LONGEST} bytes")
    return b"".join(lines)


def _parsed(data: bytes) -> tuple[str, Parsed]:
    """(message id, document); raises Unreadable."""
    if not data.strip():
        raise Unreadable("empty", f"{len(data)} bytes, no text")
    try:
        message = email.message_from_bytes(data, policy=email.policy.default)
        if not {"from", "date", "subject", "to", "received"} & {k.lower() for k in message}:
            raise Unreadable("not_email", "it has no From, To, Date or Subject line")
        if message.get_content_type() in LOCKED:
            raise Unreadable("encrypted", "the message is encrypted; decrypt it first")
        subject = _header(message, "subject")
        text = _text(message) or subject
        meta = _meta(message)
        name = _header(message, "message-id").strip("<> ")[:200]
    except Unreadable:
        raise
    except RecursionError:
        raise Unreadable("too_deep", "its parts nest too deeply") from None
    except Exception as error:  # the parser's header classes fail in many ways on purposeful harm
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        raise Unreadable("broken_email", what[:200]) from None
    if not text.strip():
        raise Unreadable("no_text", "the message has neither text nor subject")
    return "".join(name.split()), Parsed(text, subject, meta=meta)


def _header(message: Any, name: str) -> str:
    try:
        return " ".join(str(message.get(name) or "").split())
    except Exception:  # one broken header is no reason to lose the message
        return ""


def _meta(message: EmailMessage) -> dict[str, Any]:
    named = {"from": "author", "to": "to", "cc": "cc", "message-id": "message_id"}
    found: dict[str, Any] = {
        ours: text for theirs, ours in named.items() if (text := _header(message, theirs))
    }
    with suppress(ValueError, TypeError, IndexError, OverflowError):
        found["created"] = parsedate_to_datetime(_header(message, "date")).isoformat()
    names = [part.get_filename() for part in message.iter_attachments()] if _parts(message) else []
    if any(names):
        found["attachments"] = [str(name) for name in names if name]
    return found


def _parts(message: EmailMessage) -> bool:
    return message.is_multipart() and message.get_content_maintype() == "multipart"


def _text(message: EmailMessage) -> str:
    """Its own words, then those of the messages that it carries, each below its headers."""
    text = _body(message)
    for each in _carried(message):
        about = {"From": _header(each, "from"), "Subject": _header(each, "subject")}
        head = "".join(f"{name}: {value}\n" for name, value in about.items() if value)
        inside = _text(each)
        if head or inside:
            text += "\n" * bool(text) + head + "\n" * bool(head and inside) + inside
    return text


def _carried(message: Any) -> Iterator[EmailMessage]:
    """What was forwarded as an attachment, and the messages of a digest."""
    if message.get_content_type() == "message/rfc822":
        yield from (each for each in message.get_payload() if not isinstance(each, str))
    elif _parts(message):
        for part in message.iter_parts():
            yield from _carried(part)


def _body(message: EmailMessage) -> str:
    for kind in ("plain", "html"):
        part = message.get_body(preferencelist=(kind,))
        if part is None:
            continue
        text = _content(part)
        if kind == "html" and text.strip():
            try:
                text = parse_html(text).text
            except Unreadable:
                continue
        if text.strip():
            return text.replace("\r\n", "\n").strip() + "\n"
    return ""


def _content(part: Any) -> str:
    try:
        return str(part.get_content())
    except (LookupError, KeyError):  # a charset that nobody knows
        data = part.get_payload(decode=True)
        return data.decode("utf-8", "replace") if isinstance(data, bytes) else ""
