"""Events about documents: one JSON object each, and what it says read as a document.

    {"op": "upsert", "uri": "kb/42", "text": "...", "title": "...", "meta": {...}}
    {"op": "upsert", "uri": "kb/43", "bytes": "<base64>", "name": "report.pdf"}
    {"op": "upsert", "uri": "kb/44", "path": "reports/44.pdf"}
    {"op": "delete", "uri": "kb/42"}

`op` is upsert when it is not there, `id` may stand for `uri`; other keys are ignored.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from llmctl.rag import reading
from llmctl.rag.readers.base import Parsed, Unreadable
from llmctl.rag.sources.base import Unit
from llmctl.schema.ingest import IngestRecipe

LONGEST_URI = 2000
CONTENT = ("text", "bytes", "path")


@dataclass(frozen=True)
class Event:
    """A valid event; `content` is the key of CONTENT that `value` came from."""

    op: Literal["upsert", "delete"]
    uri: str
    content: str = ""
    value: str = ""
    name: str = ""
    title: str = ""
    meta: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Part:
    """One document of an event; most events have one, an mbox has one per mail."""

    uri: str
    row: str
    """The Parsed as JSON."""

    @property
    def digest(self) -> str:
        """sha256 of the content: equal content is no change."""
        return hashlib.sha256(self.row.encode()).hexdigest()


def event_of(body: bytes, max_bytes: int) -> Event:
    """The event in a message; raises Unreadable with the reason why it is none."""
    if len(body) > max_bytes:
        raise Unreadable("too_large", f"{len(body)} > {max_bytes} bytes")
    try:
        row = json.loads(body, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        raise Unreadable("bad_json", f"byte {error.start} is not UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise Unreadable("bad_json", str(error)[:200]) from None
    if not isinstance(row, dict):
        raise Unreadable("bad_event", f"a JSON object is needed, found {type(row).__name__}")
    op = row.get("op", "upsert")
    if op not in ("upsert", "delete"):
        raise Unreadable("bad_event", f"op is upsert or delete, found {str(op)[:40]!r}")
    given = row.get("uri", row.get("id"))
    uri = _plain(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    if not uri.strip():
        raise Unreadable("bad_event", "`uri` (or `id`) is missing")
    if len(uri) > LONGEST_URI:
        raise Unreadable("bad_event", f"`uri` has {len(uri)} > {LONGEST_URI} characters")
    if op == "delete":
        return Event("delete", uri)
    return _upsert(row, uri)


def _upsert(row: dict[str, Any], uri: str) -> Event:
    given = [key for key in CONTENT if row.get(key) is not None]
    if not given:
        raise Unreadable("no_text", f"{uri}: one of {', '.join(CONTENT)} is needed")
    if len(given) > 1:
        raise Unreadable("bad_event", f"{uri}: {' and '.join(given)} exclude each other")
    for key, kind in (*((key, str) for key in (given[0], "name", "title")), ("meta", dict)):
        if not isinstance(row.get(key) or kind(), kind):
            raise Unreadable("bad_event", f"{uri}: `{key}` is a {type(row[key]).__name__}")
    name, title = (_plain(row.get(key) or "") for key in ("name", "title"))
    return Event("upsert", uri, given[0], row[given[0]], name, title, row.get("meta") or {})


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _plain(value: object) -> str:
    # half surrogates and zero bytes cannot be kept by every store
    return str(value).encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def parts_of(
    recipe: IngestRecipe, event: Event, root: Path | None, scratch: Path
) -> tuple[list[Part], Unreadable | None]:
    """The documents of an upsert, read by the recipe's readers, and what of it cannot be read.

    The content lies in the file `scratch` while it is read. Raises Unreadable when there is no
    document in it at all.
    """
    if event.content == "path":
        return _read(recipe, event, _inside(root, event.value))
    if event.content == "text" and not event.value.strip():
        raise Unreadable("no_text", f"{event.uri}: the text is empty")
    data = event.value.encode("utf-8", "replace") if event.content == "text" else _decoded(event)
    scratch.write_bytes(data)
    try:
        return _read(recipe, event, scratch)
    finally:
        scratch.unlink()


def _read(recipe: IngestRecipe, event: Event, path: Path) -> tuple[list[Part], Unreadable | None]:
    name = Path(event.name or event.uri).name
    if event.content == "text" and not any(reader.takes(Path(name)) for reader in recipe.readers):
        name = "content.txt"
    found: list[Part] = []
    bad: Unreadable | None = None
    for uri, kind, parsed in reading.parts(recipe, Unit(event.uri, path, name)):
        if isinstance(parsed, Unreadable):
            bad = bad or parsed
        elif not parsed.text.strip():
            bad = bad or Unreadable("no_text", f"{uri}: the {kind} reader found no text")
        else:
            own = replace(
                parsed, title=event.title or parsed.title, meta={**parsed.meta, **event.meta}
            )
            found.append(Part(uri, json.dumps(asdict(own), default=str, sort_keys=True)))
    if not found:
        raise bad or Unreadable("no_text", f"{event.uri}: no document was found in it")
    return found, bad


def parsed_of(row: str) -> Parsed:
    """What a Part's row holds."""
    return Parsed(**json.loads(row))


def _decoded(event: Event) -> bytes:
    try:
        return base64.b64decode(event.value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Unreadable("bad_event", f"{event.uri}: `bytes` is not base64: {error}") from None


def _inside(root: Path | None, name: str) -> Path:
    """A file below `root`: links and `..` that lead out of it are refused."""
    if root is None:
        raise Unreadable("path_refused", "events with `path` need source.stream.root")
    if "\0" in name:
        raise Unreadable("path_refused", "the path has a zero byte")
    try:
        top = root.resolve()
        path = (top / name).resolve()
    except (OSError, RuntimeError) as error:
        raise Unreadable("path_refused", str(error)[:200]) from None
    if not path.is_relative_to(top):
        raise Unreadable("path_refused", f"{name[:200]!r} leads out of {root}")
    if not path.is_file():
        raise Unreadable("unreadable", f"{name[:200]!r} is not a file in {root}")
    return path
