"""Zip packages (docx, pptx, xlsx, epub) and the XML in them, opened with limits.

What a file would unpack to is checked before anything is unpacked, names that leave the package are
refused, and XML may neither declare entities nor nest without end.
"""

from __future__ import annotations

import lzma
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from llmctl.rag.readers.base import Unreadable

MAX_UNPACKED = 500_000_000
"""Bytes of all members together."""
MAX_RATIO = 200
"""Unpacked to packed bytes of a package above SMALL; office files reach about 30."""
SMALL = 10_000_000
MAX_MEMBERS = 20_000
MAX_DEPTH = 200
"""Elements inside each other; Word's deepest tables stay below 60."""

BEGINNINGS = {
    b"%PDF": "a PDF",
    b"PK\x03\x04": "a ZIP package",
    b"\xd0\xcf\x11\xe0": "an old or encrypted Office file",
    b"{\\rtf": "RTF",
    b"\x1f\x8b": "gzip",
    b"\x89PNG": "a PNG picture",
    b"\xff\xd8\xff": "a JPEG picture",
    b"<!DOC": "HTML",
    b"<html": "HTML",
}


BROKEN = (zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError, EOFError, OSError,
          NotImplementedError, RuntimeError, ValueError)  # fmt: skip
"""What zipfile answers a damaged file with, depending on where the damage is."""


def looks_like(data: bytes) -> str:
    """What a file begins like, for people."""
    for beginning, name in BEGINNINGS.items():
        if data.startswith(beginning):
            return f"it begins like {name}"
    return "it is cut off or something else"


@contextmanager
def package(path: Path) -> Iterator[zipfile.ZipFile]:
    """An open zip file whose members are safe to read; raises Unreadable."""
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise Unreadable("empty", "0 bytes, no text")
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        raise Unreadable("encrypted", "it has a password or is of an Office before 2007")
    try:
        with zipfile.ZipFile(path) as opened:
            _check(opened, path.stat().st_size)
            yield opened
    except BROKEN as error:
        detail = f"not a whole ZIP package: {looks_like(head)} ({error})"
        raise Unreadable("broken_package", detail[:200]) from None


def _check(opened: zipfile.ZipFile, size: int) -> None:
    members = opened.infolist()
    if len(members) > MAX_MEMBERS:
        raise Unreadable("zip_bomb", f"{len(members)} > {MAX_MEMBERS} members")
    # zipfile never unpacks more than a member declares, so the declared sizes are a limit
    unpacked = sum(member.file_size for member in members)
    if unpacked > MAX_UNPACKED or (unpacked > SMALL and unpacked > MAX_RATIO * size):
        raise Unreadable("zip_bomb", f"{size} bytes would unpack to {unpacked}")
    for member in members:
        name = member.filename.replace("\\", "/")
        if name.startswith("/") or ".." in name.split("/") or name[1:2] == ":":
            raise Unreadable("unsafe_package", f"a member is named {member.filename[:80]!r}")
        if member.flag_bits & 1:
            raise Unreadable("encrypted", "a password is needed; decrypt the file first")


def member(opened: zipfile.ZipFile, name: str) -> bytes:
    """The bytes of one member; raises Unreadable when it is not there or damaged."""
    try:
        return opened.read(name)
    except KeyError:
        raise Unreadable("broken_package", f"it has no part {name[:80]!r}") from None
    except Exception as error:  # zlib, lzma and bz2 have errors of their own
        raise Unreadable("broken_package", f"part {name[:80]!r} is damaged: {error}") from None


def xml_of(opened: zipfile.ZipFile, name: str) -> Element:
    """One XML member, parsed."""
    return parse_xml(member(opened, name))


def parse_xml(data: bytes) -> Element:
    """The root element; tags and attributes without their namespaces.

    A document type is refused, so there are no entities to expand and no files to fetch.
    """
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > MAX_DEPTH:
            raise Unreadable("too_deep", f"XML elements nest deeper than {MAX_DEPTH}")
        builder.start(_local(tag), {_attribute(key): each for key, each in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(tag))

    parser = expat.ParserCreate(None, "}")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = builder.data
    parser.StartDoctypeDeclHandler = refuse_doctype
    try:
        parser.Parse(data, True)
    except (expat.ExpatError, LookupError, ValueError) as error:
        raise Unreadable("broken_xml", f"not XML: {error}"[:200]) from None
    return builder.close()


def refuse_doctype(*_: object) -> None:
    """Entities, local files and other servers all come in through a document type."""
    raise Unreadable("unsafe_xml", "it declares a document type, which could hold entity bombs")


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _attribute(name: str) -> str:
    """Office elements may have an `id` of their own beside the one that names a relation."""
    return "relation" if name.endswith("/relationships}id") else _local(name)


def properties(opened: zipfile.ZipFile) -> dict[str, str]:
    """Title, author, dates ... of an Office file, from docProps/core.xml."""
    names = {"title": "title", "creator": "author", "created": "created", "modified": "modified",
             "language": "language", "subject": "subject", "keywords": "keywords"}  # fmt: skip
    if "docProps/core.xml" not in opened.namelist():
        return {}
    found = {}
    for each in xml_of(opened, "docProps/core.xml"):
        text = " ".join((each.text or "").split())
        if each.tag in names and text:
            found[names[each.tag]] = text
    return found


def relations(opened: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    """Id -> (last word of the type, member) of what an Office part points to inside the package."""
    folder, _, name = part.rpartition("/")
    listing = f"{folder}/_rels/{name}.rels"
    if listing not in opened.namelist():
        return {}
    found = {}
    for each in xml_of(opened, listing):
        if each.get("TargetMode") == "External":
            continue
        target = each.get("Target", "")
        path = target.lstrip("/") if target.startswith("/") else f"{folder}/{target}"
        kind = each.get("Type", "").rpartition("/")[2]
        found[each.get("Id", "")] = (kind, _normal(path))
    return found


def _normal(path: str) -> str:
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def markdown_table(rows: list[list[str]]) -> str:
    """Rows as Markdown; the first one is the header."""
    width = max((len(row) for row in rows), default=0)
    if not any(cell.strip() for row in rows for cell in row):
        return ""
    lines = []
    for number, row in enumerate(rows):
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        lines.append("| " + " | ".join(cells + [""] * (width - len(cells))) + " |")
        if number == 0:
            lines.append("|" + " --- |" * width)
    return "\n".join(lines)
